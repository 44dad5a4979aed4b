"""A simulation of a server, its clients and the network between them: one thread, no real time, no sockets.

Everything is real but what would make two runs differ. The server is the ASGI application over an index on disk, the
clients are sessions of both colours over the HTTP transport. Between them a network of the simulation carries bytes. It
loses, delays, repeats and reorders them. The clock jumps to the next thing that happens.

    choices   what a seed decides: each choice has a name, so that leaving one fault out changes no other choice
    clock     an event loop whose time does not pass by itself, and blocking code that runs in it
    weather   which faults hit a message
    network   the messages between clients and server
    server    the server, its restarts, and the book of what was written
    fairness  how it shares its open queries
    lifetimes how long these are open
    plan      the world of a seed: its index, its clients, its faults
    searcher  clients that search, page by page, and detach and resume
    others    clients that write, that hoard open queries, and that query once
    checks    what has to hold when all is over
    world     one run
    shrink    the least faults with which a run still fails

`python -m tests.simulation --seeds 2000` runs many seeds by hand.
"""
