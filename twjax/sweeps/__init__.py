"""Many small runs that choose a large one: points of a sweep, what they say, what they predict."""
