"""The report: one HTML file that holds all it shows, for a browser without a network.

    sample    which examples of a run it shows, drawn by seed over sources and segments
    checks    what the per-pair checks found of them
    examples  both as compressed blocks, which the page opens when they are looked at
    tables    an analysis' tables and figures as HTML
    page      everything joined: document, style, scripts, and the policy that lets nothing else run
    publish   when it is made anew

All that comes from data is text: escaped in HTML, `\\u003c` in JSON, and set by scripts as text alone. A policy in
the page (Content-Security-Policy) names its two inline blocks by their hashes, allows no request, and refuses any
assignment of strings to HTML (trusted types), so that a web page's `<script>` in the corpus stays what it is: text.
"""
