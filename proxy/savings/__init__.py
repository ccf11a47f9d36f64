"""What the cache spares people: pulls, bytes and seconds, by upstream, image and client.

`ledger` enters what is served (the pull listener tells, `web/uses.py`) and what is
fetched (an event); `images` knows which image a blob belongs to; `history` adds up
over the last hour, day, month and for ever; `keeping` brings it over a restart.
Nothing here can grow with what clients ask for, and nothing of it decides anything.
"""
