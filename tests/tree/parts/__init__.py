"""The parts of the tree. Each has make(args) and mutate(args), called in the part's own directory."""

from . import attributes, deep, kinds, links, many, modes, moves, names, sparse, specials, symlinks, times

PARTS = {
    part.__name__.rpartition(".")[2]: part
    for part in (attributes, deep, kinds, links, many, modes, moves, names, sparse, specials, symlinks, times)
}
