"""The words of clinical EEG: which phrase names which finding, place, state or cue. The one table that the grounding check reads with.

Patterns are regular expressions over plain text as `plain` makes it: lower case, American spelling, hyphens between words as spaces.
Terms after the IFCN glossary (Kane et al. 2017), the ACNS terminology (Hirsch et al. 2021) and the AASM manual (Berry et al. 2017).
"""

from __future__ import annotations

import re

from cg_data.vocabulary import (
    CHANNEL_SYNONYMS,
    CHANNELS,
    FAMILY_OF,
    LEFT_CHANNELS,
    RIGHT_CHANNELS,
    Eyes,
    Family,
    FindingKind,
    Montage,
    Stage,
)

K = FindingKind


def family_kinds(family: Family) -> tuple[FindingKind, ...]:
    """All kinds of a family, in the order of the vocabulary."""
    return tuple(kind for kind in FindingKind if FAMILY_OF[kind] is family)


_ARTIFACT = r"(?: (?:artifacts?|activity|interference|contamination|noise))?"
_DISCHARGE = r"(?: (?:complex(?:es)?|discharges?|activity|pattern|bursts?|paroxysms?))*"
FINDING_TERMS: tuple[tuple[tuple[FindingKind, ...], str], ...] = (
    ((K.ALPHA_RHYTHM,), r"alpha(?: frequency| range)?(?: (?:rhythm|activity|waves?|band|background))?"),
    ((K.BETA_ACTIVITY,), r"beta(?: frequency| range)?(?: (?:rhythm|activity|waves?|band))?|fast activity"),
    ((K.THETA_ACTIVITY,), r"theta(?: frequency| range)?(?: (?:rhythm|activity|waves?|band|slowing|slow waves?))?"),
    ((K.DELTA_ACTIVITY,), r"delta(?: frequency| range)?(?: (?:rhythm|activity|waves?|band|slowing|slow waves?))?"),
    ((K.ASYMMETRY,), r"(?:voltage |amplitude )?asymmetr(?:y|ies|ic|ical|ically)"),
    (
        (K.ASYMMETRY,),
        r"(?:voltages?|amplitudes?) (?:is|are|was|were) (?:reduced|lower|attenuated|decreased|depressed)|(?:voltage"
        r"|amplitude) (?:reduction|attenuation)",
    ),
    ((K.LOW_VOLTAGE,), r"(?:the )?voltage is low|low (?:voltage|amplitude)(?: (?:background|eeg|record|recording))?"),
    ((K.SLOWING,), r"slowing|slow (?:wave )?activity|slow waves?"),
    ((K.BLINK,), r"(?:eye ?|ocular artifacts? from (?:eye )?)?blink(?:s|ing)?(?: artifacts?)?|vertical eye movements?(?: artifacts?)?"),
    (
        (K.LATERAL_EYE_MOVEMENT,),
        r"(?:lateral|horizontal) (?:eye movements?|rectus spikes|gaze)(?: artifacts?)?|saccad(?:es?"
        r"|ic)(?: eye movements?)?",
    ),
    (
        (K.BLINK, K.LATERAL_EYE_MOVEMENT),
        r"(?:eye movements?|ocular|eye)(?: movements?)? artifacts?|eye movements?|eog artifacts?"
        r"|ocular artifacts?",
    ),
    ((K.MUSCLE,), rf"(?:muscle|emg|myogenic|electromyographic|high frequency)(?: tension)?{_ARTIFACT}|high frequency noise"),
    (
        (K.ELECTRODE_FAULT,),
        r"(?:faulty|bad|poor) (?:electrode|contact)s?(?: contact)?|electrodes?(?: contact)? (?:artifacts?|faults?"
        r"|noise|problems?)",
    ),
    ((K.ELECTRODE_FAULT,), r"electrodes? (?:is |are |was |were )?(?:faulty|bad|poor)|faulty"),
    ((K.FLAT_CHANNEL,), r"flat(?: channels?| lines?| traces?)?|isoelectric(?: channels?)?|flatlin(?:e|es|ing)|disconnected"),
    ((K.MAINS,), r"(?:mains|power ?line|line|electrical|50 hz|60 hz)(?: frequency)? (?:artifacts?|interference|noise|hum)"),
    ((K.RESPIRATION,), rf"(?:respirat(?:ion|ory)|breathing)(?: movements?)?{_ARTIFACT}"),
    ((K.ECG,), rf"(?:ecg|ekg|electrocardiographic|electrocardiogram|cardiac|heartbeat|pulse){_ARTIFACT}"),
    ((K.SWEAT,), rf"(?:sweat(?:ing)?|perspiration|electrodermal){_ARTIFACT}"),
    ((K.ELECTRODE_POP,), r"electrode pop(?:s|ping)?(?: artifacts?)?|pops"),
    ((K.CLIPPING,), r"clipp(?:ing|ed)|(?:amplifier )?saturat(?:ion|ed)|amplifier blocking"),
    ((K.SLEEP_SPINDLE,), r"(?:sleep )?spindles?(?: activity| bursts?)?|(?:bursts? of )?sigma(?: activity| bursts?)?"),
    ((K.K_COMPLEX,), r"k complex(?:es)?"),
    ((K.SPIKE,), r"(?:epileptiform )?(?:poly|multiple )?spik(?:es?|ing)(?: discharges?| transients?)?"),
    ((K.SHARP_WAVE,), r"(?:epileptiform )?sharp waves?(?: discharges?| transients?)?"),
    ((K.SPIKE, K.SHARP_WAVE), r"(?:epileptiform )?sharp transients?|(?:epileptiform )?(?:sharps|spikes? (?:and|or|/) sharp waves?)"),
    (
        (K.SPIKE_AND_SLOW_WAVE,),
        rf"(?:poly ?)?(?:spikes?|sharp)(?: waves?)?(?: and| or sharp and)?(?: slow)? waves?{_DISCHARGE}"
        rf"|spikes? (?:and )?(?:slow )?waves?{_DISCHARGE}"
        r"|swds?|(?<!k )complexes",
    ),
    (
        family_kinds(Family.EPILEPTIFORM),
        r"(?:inter ?ictal |epileptic |epileptiform )+(?:discharges?|activity|abnormalit(?:y|ies)|transients?|waveforms?|features"
        r"|patterns?|events?)",
    ),
    (family_kinds(Family.EPILEPTIFORM), r"epileptiform|discharges?|ieds?|paroxysms?"),
    (family_kinds(Family.ARTEFACT), r"artifacts?|artifactual|contamination"),
    (
        family_kinds(Family.SLEEP),
        r"(?:sleep (?:transients?|events?|figures?|features?|architecture|structures?|graphoelements?"
        r"|waveforms?))|transients of sleep",
    ),
)
"""Kinds of finding (any of them) and the phrases that name them; of overlapping phrases the longest counts."""


POSTERIOR_RHYTHM = (
    r"pdr|(?:posterior|occipital|dominant|basic|background)(?: (?:posterior|occipital|dominant|basic|background))+ rhythm"
    r"|(?:posterior|occipital) rhythm|dominant rhythm"
)
SEIZURE = (
    r"(?:electrographic |electroclinical |epileptic |clinical )?seizures?(?: activity| discharges?| patterns?)?"
    r"|(?<!inter)(?<!inter )(?<!post)ictal(?: \w+)?"
)
SYMMETRIC = r"symmetric(?:al|ally)?|symmetry"

STAGE_TERMS: tuple[tuple[tuple[Stage, ...], str], ...] = (
    ((Stage.WAKE,), r"awake|wake(?:ful|fulness)?|waking(?: state)?"),
    ((Stage.N1,), r"(?:sleep )?(?:stage )?n1(?: sleep)?|(?:nrem )?stage (?:1|i)\b(?: sleep)?|drows(?:y|iness)|somnolen(?:t|ce)"),
    ((Stage.N2,), r"(?:sleep )?(?:stage )?n2(?: sleep)?|(?:nrem )?(?:sleep )?stage (?:2|ii)\b(?: sleep)?"),
    (
        (Stage.N3,),
        r"(?:sleep )?(?:stage )?n3(?: sleep)?|(?:nrem )?(?:sleep )?stage (?:3|4|iii|iv)\b(?: sleep)?|slow wave sleep"
        r"|deep sleep|delta sleep",
    ),
    ((Stage.REM,), r"(?<!n)rem(?: sleep)?|(?:stage )?r sleep|paradoxical sleep"),
    ((Stage.N1, Stage.N2), r"light sleep"),
    ((Stage.N1, Stage.N2, Stage.N3), r"n(?:on )?rem(?: sleep)?"),
    ((Stage.N1, Stage.N2, Stage.N3, Stage.REM), r"asleep|sleep(?:ing)?(?: state)?"),
)
EYES_TERMS: tuple[tuple[Eyes, str], ...] = (
    (Eyes.CLOSED, r"eyes?(?: (?:are|were|is|being|remain))? (?:closed|shut)|closed eyes"),
    (Eyes.OPEN, r"eyes?(?: (?:are|were|is|being|remain))? open(?:ed)?|open eyes"),
)

_LEFT, _RIGHT = LEFT_CHANNELS, RIGHT_CHANNELS
_MID = frozenset(CHANNELS) - _LEFT - _RIGHT
REGION_TERMS: tuple[tuple[str, frozenset[str], str], ...] = (
    (
        "frontal",
        frozenset({"Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8"}),
        r"(?:bi|pre)?frontal(?:ly|is)?|fronto ?polar(?:ly)?"
        r"|anterior(?:ly)?|frontal",
    ),
    ("frontal+central", frozenset({"Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "C3", "Cz", "C4"}), r"fronto ?central(?:ly)?"),
    ("frontal+temporal", frozenset({"Fp1", "Fp2", "F7", "F3", "F4", "F8", "T3", "T4"}), r"fronto ?temporal(?:ly)?"),
    ("central", frozenset({"C3", "Cz", "C4"}), r"central(?:ly)?|vertex|rolandic"),
    ("central+temporal", frozenset({"C3", "C4", "T3", "T4", "T5", "T6"}), r"centro ?temporal(?:ly)?"),
    ("central+posterior", frozenset({"C3", "Cz", "C4", "P3", "Pz", "P4"}), r"centro ?parietal(?:ly)?"),
    ("temporal", frozenset({"F7", "F8", "T3", "T4", "T5", "T6"}), r"(?:bi|(?:mid|anterior|posterior|mesial) ?)?temporal(?:ly)?(?: lobe)?"),
    (
        "temporal+posterior",
        frozenset({"T3", "T4", "T5", "T6", "P3", "P4", "O1", "O2"}),
        r"temporo ?(?:parietal|occipital"
        r"|parieto ?occipital)(?:ly)?",
    ),
    ("parietal", frozenset({"P3", "Pz", "P4"}), r"parietal(?:ly)?"),
    ("posterior", frozenset({"P3", "Pz", "P4", "O1", "O2", "T5", "T6"}), r"posterior(?:ly)?|(?:parieto ?)?occipital(?:ly)?"),
)
"""Printed name, electrodes and phrases of each region; F7 and F8 lie over the anterior temporal lobe and count as temporal too."""

SIDE_TERMS: tuple[tuple[str, str], ...] = (
    ("left", r"left(?: sided| hemispher(?:e|ic))?"),
    ("right", r"right(?: sided| hemispher(?:e|ic))?"),
    (
        "bilateral",
        r"bilateral(?:ly)?(?: synchronous)?|both (?:hemispheres|sides)|both(?= (?:\w+ )?(?:frontal|temporal|central|parietal"
        r"|occipital|posterior))",
    ),
    ("midline", r"midline"),
    ("generalised", r"generali[sz]ed"),
)
SIDE_CHANNELS: dict[str, frozenset[str]] = {"left": _LEFT, "right": _RIGHT, "midline": _MID}
EXTENT = r"diffuse(?:ly)?|widespread"

CHANNEL_OF: dict[str, str] = {name.lower(): name for name in CHANNELS} | {k.lower(): v for k, v in CHANNEL_SYNONYMS.items()}
CHANNEL = "|".join(sorted(CHANNEL_OF, key=lambda name: -len(name)))
UNKNOWN_CHANNEL = r"(?:a|m|sp|e)[12]|(?:fp|af|o|po|nz|fc|cp|i)z|(?:af|fc|ft|cp|tp|po)\d0?|[tfp](?:9|10)|t[12]"

MAXIMUM_CUE = r"(?:maxim(?:al|um|a)|max|peak(?:s|ing)?|most (?:prominent|marked|pronounced)|strongest|highest|predominan(?:t|tly|ce))"
REVERSAL_CUE = r"phase revers(?:als?|es?|ing)|revers(?:es?|ing) (?:in )?phase"
EXCLUSIVE_CUE = (
    r"\b(?:(?:restricted|confined|limited) to|only (?:at|over|in|on|seen (?:at|over|in|on)))"
    r"(?: (?:the|both|channels?|electrodes?))*\s*$"
)
OPPOSITE_CUE = r"(?:opposite|second|other) pole"
POLARITY_TERMS: tuple[tuple[str, str], ...] = (
    ("negative", r"(?:surface |electro ?)?negativ(?:e|ity)"),
    (
        "positive",
        r"(?:surface |electro ?)positiv(?:e|ity)|positive (?:in )?polarity|(?<=are )positive(?! occ)|(?<=is )positive(?! occ)"
        r"|positive (?:peak|dipole)",
    ),
)
ORIENTATION_TERMS: tuple[tuple[str, str], ...] = (("radial", r"radial"), ("tangential", r"tangential"))
REACTIVITY_TERMS: tuple[tuple[str, str], ...] = (
    (
        "no",
        r"(?:non ?|un|not )reactive|poor(?:ly)? reactiv(?:e|ity)|no reactivity"
        r"|(?:fails? to|(?:does|did|do) not) (?:attenuate|block|react)(?: (?:with|on|upon|to|by) eye opening)?",
    ),
    (
        "yes",
        r"(?:good |normal |preserved )?reactiv(?:e|ity)(?: to eye opening)?|(?:attenuates?|blocks?) (?:with|on|upon|to|by) eye opening",
    ),
)

ALL_RECORDED = (
    r"all (?:of the )?(?:19|nineteen)? ?(?:channels|electrodes)(?: (?:are|were|is))? (?:recorded|present|available|shown)"
    r"|no (?:missing (?:channels|electrodes)|(?:channels?|electrodes?) (?:is |are |was |were )?missing)"
)
MISSING = r"missing|(?:not|never) recorded|unavailable|not available"

MONTAGE_TERMS: tuple[tuple[tuple[Montage, ...], str], ...] = (
    ((Montage.AVERAGE,), r"(?:common )?average (?:reference|montage)"),
    ((Montage.LINKED_EARS,), r"(?:linked ears?|ear) (?:reference|montage)"),
    ((Montage.CZ,), r"cz (?:reference|montage)"),
    ((Montage.LAPLACIAN,), r"laplacian(?: montage)?"),
    ((Montage.RECORDED,), r"reference as recorded"),
    ((Montage.LONGITUDINAL_BIPOLAR,), r"longitudinal bipolar(?: montage)?|double banana"),
    ((Montage.TRANSVERSE_BIPOLAR,), r"transverse bipolar(?: montage)?"),
    ((Montage.TCP,), r"tcp(?: bipolar)? montage|temporal central parasagittal(?: bipolar)? montage"),
    ((Montage.LONGITUDINAL_BIPOLAR, Montage.TRANSVERSE_BIPOLAR, Montage.TCP), r"bipolar montage"),
)

OTHER_TERMS: tuple[tuple[str, str], ...] = (
    ("epilepsy", r"(?:\w+ )?epileps(?:y|ies)|epileptic (?:syndrome|encephalopathy|focus)|irritative zone"),
    ("encephalopathy", r"encephalopath(?:y|ic)|coma(?:tose)?|anoxi[ac]|hypoxi[ac]"),
    ("lesion", r"lesions?|tumou?rs?|stroke|infarct\w*|h(?:a)?emorrhage|structural \w+|dysfunction|scleros[ie]s"),
    ("history", r"(?:clinical )?history|medications?|drugs?|medicated|years? old|symptoms?|head trauma|family"),
    ("diagnosis", r"diagnos(?:is|es|tic|ed)|syndrome|clinical correlation|treatment|prognosis"),
    ("normal", r"(?:ab)?normal(?:ity|ities|ly)?(?: limits)?|unremarkable|physiologic(?:al)?|patholog(?:y|ic|ical)"),
    ("vertex", r"vertex (?:sharp )?(?:waves?|transients?)"),
    ("posts", r"posts|positive occipital sharp transients"),
    ("variant", r"lambda waves?|mu rhythm|wickets?(?: spikes)?|hypnagogic \w+|rhythmic mid ?temporal theta|14 and 6|breach(?: rhythm)?"),
    ("photic", r"photic(?: (?:driving|stimulation|response))?|hyperventilation|activation procedures?"),
    (
        "periodic",
        r"periodic(?: \w+)? ?(?:discharges?|patterns?)?|[lg]pds?|pleds?|triphasic(?: waves?)?|burst suppression|[fot]irda|[gl]rda",
    ),
    ("filter", r"(?:high|low) pass|notch filter|sampling rate|sensitivity of"),
)
"""What the annotation never tells: diagnoses, history, normality, patterns outside the vocabulary."""

NEGATION_BEFORE = (
    r"\b(?:nothing|no(?: definite| clear| obvious| evidence (?:of|for)| signs? of| indication of)?|not|without|absence of|absent"
    r"|free of|free from|devoid of"
    r"|lacks?|lacking|neither|nor|never|rather than|instead of|rules? out|excludes?|denies|negative for|unlikely to (?:be|represent)"
    r"|mistaken for|confused with|mimic(?:s|king)?|resembl(?:es|ing)|none of)\b"
)
NEGATION_AFTER = (
    r"^\W*(?:(?:\w+ )?(?:is|are|was|were|has been|have been|can|could) )?(?:not|never)(?: clearly| definitely)?(?: be)? ?"
    r"(?:seen|present|observed|identified|recorded|noted|detected|evident|visible|apparent|found|appreciated)"
    r"|^\W*(?:is|are|was|were) (?:absent|lacking|missing)|^\W*:? ?(?:none|absent)\b"
)
NEUTRAL_NOT = r"not only|without doubt|no doubt|not (?:be )?(?:excluded|ruled out)"
HEDGE_BEFORE = r"\b(?:possibl[ey]|may|might|could|suspicious for|suspected|questionable|equivocal|cannot (?:exclude|rule out))\b"
HEDGE_AFTER = (
    r"\b(?:(?:cannot|can not|could not|can't) be (?:excluded|ruled out)|not (?:be )?(?:excluded|ruled out)|(?:is"
    r"|are) (?:possible|suspected|questionable|equivocal))\b"
)
SCOPE_END = (
    r";|\bbut\b|\bhowever\b|\balthough\b|\bthough\b|\bwhereas\b|\bwhile\b|\byet\b|, with\b|\bexcept\b|\bapart from\b"
    r"|\bother than\b|\baside from\b|\bfollowed by\b|\bbecause\b|, (?:and )?there (?:is|are)\b|\bpresence of\b|, which\b|\band with\b"
)
EXCEPTION = r"\b(?:except(?: for)?|apart from|aside from|other than|besides|no other|no further|no additional)\b"

NUMBER_WORDS: dict[str, float] = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12,
    "single": 1, "solitary": 1, "isolated": 1, "once": 1, "twice": 2,
}  # fmt: skip
MANY_WORDS = r"several|multiple|many|frequent(?:ly)?|numerous|repeated(?:ly)?|recurrent"

_SPELLING = (
    ("artefact", "artifact"),
    ("µ", "u"),
    ("μ", "u"),
    ("–", "-"),
    ("—", ", "),
    ("’", "'"),
    ("\u00a0", " "),
    ("isation", "ization"),
    ("seizure-free", "free of seizures"),
    ("seizure free", "free of seizures"),
)


def plain(text: str) -> str:
    """Lower case, American spelling, no markdown, hyphens between words as spaces ("spike-and-wave" becomes "spike and wave")."""
    text = text.lower()
    for old, new in _SPELLING:
        text = text.replace(old, new)
    text = re.sub(r"[*_`#]+", "", text)
    text = re.sub(r"\bmicro ?volts?\b", "uv", text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])|(?<=\d)-(?=s\b|[a-z]{3})|(?<=[a-z]\d)-(?=[a-z])", " ", text)
    return re.sub(r"\s+", " ", text).strip()
