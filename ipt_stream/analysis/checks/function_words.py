"""Function words: the small words that make up half of any text, by which a language shows and no content does.

The most frequent articles, pronouns, prepositions, conjunctions and auxiliaries of languages that are common on the web
and written with spaces. A few dozen a language tell these apart in a sentence or two.
"""

from __future__ import annotations


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "en": _words(
        "a about above after again against all also am an and any are as at be because been before being below "
        "between both but by can could did do does doing down during each either few for from further had has "
        "have having he her here hers herself him himself his how i if in into is it its itself just may me might "
        "more most must my myself neither no nor not of off on once only or other our ours out over own same "
        "shall she should so some such than that the their theirs them themselves then there these they this "
        "those through to too under until up upon us very was we were what when where whether which while who "
        "whom whose why will with within without would you your yours s t re ve ll d m"
    ),
    "de": _words(
        "der die das den dem des ein eine einen einem einer eines und oder aber nicht ist sind war waren wird "
        "werden wurde hat haben hatte ich du er sie es wir ihr sich mich mir dich dir ihm ihn uns mit von zu zur "
        "zum bei aus nach auf für über unter durch als wie wenn dass auch nur noch schon sehr im am an kein keine "
        "was wer wo"
    ),
    "fr": _words(
        "le la les un une des du de et ou mais ne pas plus est sont était étaient être avoir ont avait je tu il "
        "elle nous vous ils elles on se ce cette ces son sa ses leur leurs dans sur sous avec sans pour par que "
        "qui quoi où comme aux au en y dont très aussi quand si été cet entre"
    ),
    "es": _words(
        "el la los las un una unos unas de del y o pero no es son era eran ser estar está están ha han había yo "
        "tú él ella nosotros ellos ellas se su sus lo le les en con sin por para que qué quién como cómo cuando "
        "donde muy más también al este esta estos estas ese esa entre sobre fue"
    ),
    "it": _words(
        "il lo la i gli le un uno una di del della dei delle dello e o ma non è sono era erano essere avere ha "
        "hanno aveva io tu lui lei noi voi loro si suo sua suoi in con senza per da dal dalla nel nella sul sulla "
        "che chi come quando dove molto più anche al alla questo questa questi tra fra"
    ),
    "pt": _words(
        "o a os as um uma uns umas de do da dos das e ou mas não é são era eram ser estar está estão tem têm "
        "tinha eu tu ele ela nós eles elas se seu sua seus suas lhe em no na nos nas com sem por para pelo pela "
        "que quem como quando onde muito mais também ao à este esta isto foi entre"
    ),
    "nl": _words(
        "de het een en of maar niet is zijn was waren worden wordt werd heeft hebben had ik jij hij zij ze wij we "
        "jullie zich haar hun ons dit dat deze die met van voor naar bij uit op over onder door als dan ook nog "
        "al zeer aan er geen wat wie waar te om"
    ),
    "sv": _words(
        "och eller men inte är var vara blir blev har hade jag du han hon vi ni de dem sig sin sitt sina den det "
        "ett en på av för med till från om som när där här också mycket mer än att vad vem kan ska skulle under "
        "över mellan i"
    ),
    "pl": _words(
        "i oraz lub ale nie jest są był była było były być ma mają ja ty on ona ono my wy oni się jego jej ich w "
        "we z ze na do od po przez dla przy o u za że który która które co kto gdzie kiedy jak bardzo także tylko "
        "to ten ta te"
    ),
    "tr": _words(
        "ve veya ama değil bir bu şu o ben sen biz siz onlar için ile gibi kadar daha çok en da de ki mi mı ne "
        "kim nerede nasıl olan olarak oldu olduğu var yok her sonra önce göre"
    ),
    "id": _words(
        "dan atau tetapi tidak adalah ini itu yang di ke dari untuk dengan pada oleh sebagai dalam saya kamu dia "
        "kami mereka akan telah sudah bisa dapat juga lebih sangat apa siapa karena jika ada seperti para"
    ),
    "ru": _words(
        "и или но не это был была было были быть есть я ты он она оно мы вы они его её их себя в во на с со из к "
        "ко от до по за для при о об что кто где когда как так также очень только который которая которые у же бы"
    ),
    "uk": _words(
        "і й та або але не це був була було були бути є я ти він вона воно ми ви вони його її їх себе в у на з із "
        "до від по за для при про що хто де коли як так також дуже тільки який яка які же би"
    ),
}
ANSWER_WORDS = _words("yes no true false maybe none unknown answer therefore question option options step let think")
"""What an answer is made of that says nothing of its text."""
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_UNITS.split())} | {
    word: str(10 * tens) for tens, word in enumerate(_TENS.split(), 2)
}
"""English numbers up to a hundred that are one word."""
