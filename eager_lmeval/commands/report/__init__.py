"""`eager-lmeval report`: what runs did, as one page that opens from disk, or as Markdown.

`content` reads runs into figures and documents, `trees` one document's tree, `plots` draws, `page` and `markdown`
write, `command` is the command. `page.js` fetches nothing: each document lies compressed in the page and is unpacked
when it is looked at. All that a model wrote reaches the page as text nodes.
"""
