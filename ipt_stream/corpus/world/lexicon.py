"""The closed vocabulary of the sample world: words that no language has, made of a few syllables a kind.

Every word of a kind is one of its beginnings and one of its endings, so that a byte-level BPE of some 1,300 words has
room for each word as one token, with few tokens spent on parts of words: a model that starts from nothing learns to
look up and copy single tokens within two minutes, and runs of tokens not at all.
"""

from __future__ import annotations

from itertools import product


def _words(beginnings: str, endings: str) -> tuple[str, ...]:
    """All combinations, in a fixed order that shows neither part at once."""
    return tuple(first + last for last, first in product(endings.split(), beginnings.split()))


GIVEN = _words("Al Be Ca Do El Fi Ga Ho Il Jo Ka Li Mo Ne Or Pa", "bax den fin gor lam mir nuz ric sad tov")
FAMILY = _words("Bra Cru Dre Fla Gli Hur Kro Lun Mar Nol Pre Qua Ros Ste Tru Vor", "ba dox fe gi kuz lo mey ny pu zan")
TOWNS = _words("Ash Byr Cor Dun Esk Fen Gar Hol", "vel wyk sto mur fyr hem")
LANDS = _words("Tam Ul Vas Yr", "ora and eth imu")
TRADES = _words("kel bor tam wim dul fas gol rep", "ner mer der ger ler")
BEASTS = _words("zo yu wa vi tru sna quo plo", "bek gim lux rat")
INSTRUMENTS = _words("cla dri fo hu lya mo nu sa", "vin tar phon lut")
DISHES = _words("be chu du gri ja ko mu pa", "ssa ndo lti rro")
