"""What was read of a View: what one needs, what it never touches, and what one waited for.

report    Report: counted from what a View kept of its reads, and from what its account paid
waste     what was fetched of a blob and never read; pure
page      a Report as one HTML file that needs nothing else
tiles     the closure as a treemap, in SVG
treemap   squarified treemaps; pure
timeline  what was waited for, in SVG
words     names of strangers and numbers, as people read them
table     a Report for a terminal
keeping   writing Reports to files
asking    whom to ask for one

All but ``report`` is made by whoever asks, from the JSON that a daemon answers with.
"""
