"""What is fetched before anybody asks for it. Whoever waits goes first, always.

pace       Pace: what one lake was seen to deliver, and how much in flight fills the way to it; no clock
governor   Governor: when work that nobody waits for may begin; one for the whole process
window     Streams: who reads a NAR forward, and how far ahead of him it should be fetched; pure
following  Following: fetches that far, and counts what of all that was fetched ahead is read
bringing   bring: named parts of NARs into the cache, in order, within an Allowance
learning   what is kept of a profile after one more run; pure
matching   what a profile names, found among the paths of a View; pure
mentions   Mentions: what files name that are read, in one View
libraries  Libraries: of ELF files, found as ld.so finds them
modules    Modules: those that Python imports
sight      Sight: what may be seen of a View, and paths in it
quietly    doing what nobody has asked for, so that nobody hears of it when it fails
replay     Replay: a profile brought for one View, until it is wrong
"""
