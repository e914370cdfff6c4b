"""The Views of a daemon: they come by request, are kept over a restart, and go by request or with who wanted them.

spec       what somebody wants to see, where, from which stores: one frozen value, JSON on the socket and on disk
sessions   lakes and Store of each Config, opened once for all Views that have it
place      binding a View's directory to where it is wanted
owner      the process, or the lease, that a View ends with
kept       a View that is shown
lost       LostViews: those that could not be made again
keeper     Views: create, remove, list, restore
records    what is kept of them on disk
operations what of them the control socket offers
inputs     what a derivation has to see
asking     the other side of the socket
"""
