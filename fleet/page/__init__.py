"""The centre as people see it in a browser: pages rendered here, live parts replaced by the same.

`front.with_page` puts the pages beside the API on the same listeners. Rules of the room:

- It judges nothing and words nothing: every state, reason and number comes from the functions
  that the API answers with (`fleet.api`), every sentence from `fleet.sentences` and
  `fleet.wording`. Templates only place them.
- Every view is a URL, reads without JavaScript, and loads nothing from elsewhere.
- No page holds more than `views.devices.PAGE_LIMIT` devices, however many there are.
- Whoever is not signed in sees the sign-in page and the static files, and nothing else.
"""
