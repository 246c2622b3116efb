"""From a domain file to a bundle: the whole line, readable as one page."""
