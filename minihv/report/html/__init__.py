"""Reports as HTML: one self-contained page, no network and no script; charts are inline SVG."""
