"""GPS fixes in, days of traffic frames out: a city of your own.

settings   what a person chooses
sources    which files, and whether they changed since
points     a file of points, streamed as columns of text and numbers
fixes      columns to checked fixes, one fixed-size record each
days       the wall clock of the city's files, and days cut at its midnight
scratch    fixes by day, sorted by vehicle and time, on disk
steps      from fix to fix: time, way, speed, heading
judging    which fixes count, and why the others do not
paths      cells crossed between two fixes
cells      fixes that count to bytes
report     how many fixes were read, used and dropped; they add up
rasterise  the whole run
"""
