"""The dream as a web page."""
