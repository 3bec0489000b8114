"""The site, the front page, pages, compare, audit."""
