"""Every name the system uses for electrodes, waveforms, findings, bands, stages and samples. Nothing else spells them."""

from __future__ import annotations

from enum import StrEnum

SFREQ_HZ = 200
"""Sampling rate of every segment after `cg_data.signal`, in hertz."""
SEGMENT_S = 10
"""Length of a segment (one page), in seconds."""
SEGMENT_SAMPLES = SFREQ_HZ * SEGMENT_S
UV_PER_STEP = 0.1
"""Microvolts per int16 step in a segment."""

CHANNELS: tuple[str, ...] = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz", "P4", "T6", "O1", "O2",
)  # fmt: skip
"""The nineteen electrodes of the international 10-20 system (Jasper 1958), in page order from the top row down."""
N_CHANNELS = len(CHANNELS)
CHANNEL_INDEX: dict[str, int] = {name: i for i, name in enumerate(CHANNELS)}
CHANNEL_SYNONYMS: dict[str, str] = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
"""10-10 names (ACNS 2006) of four 10-20 electrodes."""

POSITIONS_XY: dict[str, tuple[float, float]] = {
    "Fp1": (-0.31, 0.95), "Fp2": (0.31, 0.95), "F7": (-0.81, 0.59), "F3": (-0.40, 0.51), "Fz": (0.0, 0.50),
    "F4": (0.40, 0.51), "F8": (0.81, 0.59), "T3": (-1.0, 0.0), "C3": (-0.50, 0.0), "Cz": (0.0, 0.0), "C4": (0.50, 0.0),
    "T4": (1.0, 0.0), "T5": (-0.81, -0.59), "P3": (-0.40, -0.51), "Pz": (0.0, -0.50), "P4": (0.40, -0.51),
    "T6": (0.81, -0.59), "O1": (-0.31, -0.95), "O2": (0.31, -0.95),
}  # fmt: skip
"""Schematic positions on the unit disc seen from above: x to the right ear, y to the nose."""


class Montage(StrEnum):
    """What the potentials on a page are held against (`cg_data.montage`)."""

    AVERAGE = "average"
    LINKED_EARS = "linked_ears"
    LONGITUDINAL_BIPOLAR = "longitudinal_bipolar"
    TRANSVERSE_BIPOLAR = "transverse_bipolar"
    TCP = "tcp"
    LAPLACIAN = "laplacian"
    CZ = "cz"
    RECORDED = "recorded"


class Waveform(StrEnum):
    """The nine classes of the detector (CerebraGloss, ICLR 2026), in the order of its class indices."""

    SPIKE = "spike"
    SHARP_WAVE = "sharp_wave"
    SPIKE_AND_SLOW_WAVE = "spike_or_sharp_and_slow_wave"
    K_COMPLEX = "k_complex"
    SLEEP_SPINDLE = "sleep_spindle"
    HIGH_FREQUENCY_NOISE = "high_frequency_noise"
    POSITIVE_SHARP_TRANSIENT = "positive_sharp_transient"
    POSITIVE_SQUARE_WAVE = "positive_square_wave"
    NEGATIVE_SQUARE_WAVE = "negative_square_wave"


WAVEFORMS: tuple[Waveform, ...] = tuple(Waveform)
WAVEFORM_INDEX: dict[Waveform, int] = {w: i for i, w in enumerate(WAVEFORMS)}
EPILEPTIFORM: frozenset[Waveform] = frozenset({Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.SPIKE_AND_SLOW_WAVE})


LATERAL_EYES: frozenset[Waveform] = frozenset({Waveform.POSITIVE_SQUARE_WAVE, Waveform.NEGATIVE_SQUARE_WAVE})


class Family(StrEnum):
    BACKGROUND = "background"
    ARTEFACT = "artefact"
    SLEEP = "sleep"
    EPILEPTIFORM = "epileptiform"


class FindingKind(StrEnum):
    """Twenty-three kinds of finding in four families; `FAMILY_OF` gives the family."""

    ALPHA_RHYTHM = "alpha_rhythm"
    BETA_ACTIVITY = "beta_activity"
    THETA_ACTIVITY = "theta_activity"
    DELTA_ACTIVITY = "delta_activity"
    ASYMMETRY = "asymmetry"
    LOW_VOLTAGE = "low_voltage"
    SLOWING = "slowing"
    BLINK = "blink"
    LATERAL_EYE_MOVEMENT = "lateral_eye_movement"
    MUSCLE = "muscle"
    ELECTRODE_FAULT = "electrode_fault"
    FLAT_CHANNEL = "flat_channel"
    MAINS = "mains"
    RESPIRATION = "respiration"
    ECG = "ecg"
    SWEAT = "sweat"
    ELECTRODE_POP = "electrode_pop"
    CLIPPING = "clipping"
    SLEEP_SPINDLE = "sleep_spindle"
    K_COMPLEX = "k_complex"
    SPIKE = "spike"
    SHARP_WAVE = "sharp_wave"
    SPIKE_AND_SLOW_WAVE = "spike_or_sharp_and_slow_wave"


_BACKGROUND = (
    FindingKind.ALPHA_RHYTHM, FindingKind.BETA_ACTIVITY, FindingKind.THETA_ACTIVITY, FindingKind.DELTA_ACTIVITY,
    FindingKind.ASYMMETRY, FindingKind.LOW_VOLTAGE, FindingKind.SLOWING,
)  # fmt: skip
_ARTEFACT = (
    FindingKind.BLINK, FindingKind.LATERAL_EYE_MOVEMENT, FindingKind.MUSCLE, FindingKind.ELECTRODE_FAULT,
    FindingKind.FLAT_CHANNEL, FindingKind.MAINS, FindingKind.RESPIRATION, FindingKind.ECG, FindingKind.SWEAT,
    FindingKind.ELECTRODE_POP, FindingKind.CLIPPING,
)  # fmt: skip
_SLEEP = (FindingKind.SLEEP_SPINDLE, FindingKind.K_COMPLEX)
_EPILEPTIFORM = (FindingKind.SPIKE, FindingKind.SHARP_WAVE, FindingKind.SPIKE_AND_SLOW_WAVE)
FAMILY_OF: dict[FindingKind, Family] = (
    dict.fromkeys(_BACKGROUND, Family.BACKGROUND)
    | dict.fromkeys(_ARTEFACT, Family.ARTEFACT)
    | dict.fromkeys(_SLEEP, Family.SLEEP)
    | dict.fromkeys(_EPILEPTIFORM, Family.EPILEPTIFORM)
)
FINDING_OF_WAVEFORM: dict[Waveform, FindingKind] = {
    Waveform.SPIKE: FindingKind.SPIKE,
    Waveform.SHARP_WAVE: FindingKind.SHARP_WAVE,
    Waveform.SPIKE_AND_SLOW_WAVE: FindingKind.SPIKE_AND_SLOW_WAVE,
    Waveform.K_COMPLEX: FindingKind.K_COMPLEX,
    Waveform.SLEEP_SPINDLE: FindingKind.SLEEP_SPINDLE,
    Waveform.HIGH_FREQUENCY_NOISE: FindingKind.MUSCLE,
    Waveform.POSITIVE_SHARP_TRANSIENT: FindingKind.BLINK,
    Waveform.POSITIVE_SQUARE_WAVE: FindingKind.LATERAL_EYE_MOVEMENT,
    Waveform.NEGATIVE_SQUARE_WAVE: FindingKind.LATERAL_EYE_MOVEMENT,
}


class Band(StrEnum):
    DELTA = "delta"
    THETA = "theta"
    ALPHA = "alpha"
    BETA = "beta"


BAND_EDGES_HZ: dict[Band, tuple[float, float]] = {
    Band.DELTA: (0.5, 4.0),
    Band.THETA: (4.0, 8.0),
    Band.ALPHA: (8.0, 13.0),
    Band.BETA: (13.0, 30.0),
}
"""Half-open bands, in hertz (IFCN glossary, Kane et al. 2017)."""


class Region(StrEnum):
    FRONTAL = "frontal"
    CENTRAL = "central"
    TEMPORAL = "temporal"
    POSTERIOR = "posterior"


REGION_CHANNELS: dict[Region, tuple[str, ...]] = {
    Region.FRONTAL: ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8"),
    Region.CENTRAL: ("C3", "Cz", "C4"),
    Region.TEMPORAL: ("T3", "T4", "T5", "T6"),
    Region.POSTERIOR: ("P3", "Pz", "P4", "O1", "O2"),
}
LEFT_CHANNELS: frozenset[str] = frozenset({"Fp1", "F7", "F3", "T3", "C3", "T5", "P3", "O1"})
RIGHT_CHANNELS: frozenset[str] = frozenset({"Fp2", "F8", "F4", "T4", "C4", "T6", "P4", "O2"})


class Side(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    MIDLINE = "midline"
    BILATERAL = "bilateral"
    GENERALISED = "generalised"


class Polarity(StrEnum):
    """Sign of a discharge at the scalp, at its maximum."""

    NEGATIVE = "negative"
    POSITIVE = "positive"


class Orientation(StrEnum):
    """Of a dipole beneath the scalp: a radial one shows one pole, a tangential one two poles beside each other."""

    RADIAL = "radial"
    TANGENTIAL = "tangential"


class Stage(StrEnum):
    """Sleep stages (AASM); wake is split by the eyes, for that is what a page of routine EEG shows."""

    WAKE = "wake"
    N1 = "n1"
    N2 = "n2"
    N3 = "n3"
    REM = "rem"
    UNKNOWN = "unknown"


class Eyes(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class LabelKind(StrEnum):
    """What a reference label of a recording marks; `LABEL_NAMES` gives the names that each kind can have.

    ``searched`` marks nothing: a reader looked for this waveform here, so that where none is marked there is none. Without it what is not
    marked is unknown. ``unsure`` is no mark either: the waveform may be there, and who says so or does not is neither right nor wrong.
    """

    WAVEFORM = "waveform"
    STAGE = "stage"
    EYES = "eyes"
    SEIZURE = "seizure"
    ARTEFACT = "artefact"
    ARTEFACT_CODE = "artefact_code"
    PATTERN = "pattern"
    BACKGROUND = "background"
    CLINICAL = "clinical"
    SEARCHED = "searched"
    UNSURE = "unsure"


class SeizureType(StrEnum):
    """Seizures: untyped, by the codes of the TUH corpora, and by the ILAE 2017 classes as SzCORE spells them (Dan et al. 2024)."""

    SEIZURE = "seizure"
    FOCAL_NON_SPECIFIC = "fnsz"
    GENERALISED_NON_SPECIFIC = "gnsz"
    SIMPLE_PARTIAL = "spsz"
    COMPLEX_PARTIAL = "cpsz"
    ABSENCE = "absz"
    TONIC = "tnsz"
    CLONIC = "cnsz"
    TONIC_CLONIC = "tcsz"
    ATONIC = "atsz"
    MYOCLONIC = "mysz"
    FOCAL = "sz_foc"
    FOCAL_AWARE = "sz_foc_a"
    FOCAL_IMPAIRED_AWARENESS = "sz_foc_ia"
    FOCAL_UNKNOWN_AWARENESS = "sz_foc_ua"
    FOCAL_TO_BILATERAL_TONIC_CLONIC = "sz_foc_f2b"
    GENERALISED = "sz_gen"
    GENERALISED_MOTOR = "sz_gen_m"
    GENERALISED_NON_MOTOR = "sz_gen_nm"
    UNKNOWN_ONSET = "sz_uo"
    UNKNOWN_ONSET_MOTOR = "sz_uo_m"
    UNKNOWN_ONSET_NON_MOTOR = "sz_uo_nm"


class ArtefactCode(StrEnum):
    """Artefacts that a corpus marks more coarsely or otherwise than `FindingKind` does, under the corpus's own code.

    Two codes joined are both there at once (TUH corpora); ``bad`` is a channel that BIDS calls bad; ``impd`` an impedance check.
    """

    ARTEFACT = "artf"
    EYE_MOVEMENT = "eyem"
    CHEWING = "chew"
    SHIVERING = "shiv"
    ELECTRODE = "elec"
    ELECTROSTATIC = "elst"
    CALIBRATION = "calb"
    EYE_MOVEMENT_CHEWING = "eyem_chew"
    EYE_MOVEMENT_SHIVERING = "eyem_shiv"
    EYE_MOVEMENT_MUSCLE = "eyem_musc"
    EYE_MOVEMENT_ELECTRODE = "eyem_elec"
    CHEWING_SHIVERING = "chew_shiv"
    CHEWING_MUSCLE = "chew_musc"
    CHEWING_ELECTRODE = "chew_elec"
    SHIVERING_MUSCLE = "shiv_musc"
    SHIVERING_ELECTRODE = "shiv_elec"
    MUSCLE_ELECTRODE = "musc_elec"
    BAD_CHANNEL = "bad"
    IMPEDANCE_CHECK = "impd"


class Pattern(StrEnum):
    """Patterns that a corpus marks and our waveforms lack.

    ``spsw`` of the TUH corpora is a spike, a sharp wave or either with a slow wave, so none of our three classes. ``nesz`` looks like
    a seizure to the eye and is none in the EEG.
    """

    SPIKE_OR_SHARP_WAVE = "spsw"
    GENERALISED_PERIODIC_DISCHARGES = "gped"
    LATERALISED_PERIODIC_DISCHARGES = "pled"
    SLOWING = "slow"
    TRIPHASIC = "trip"
    HYPNAGOGIC_HYPERSYNCHRONY = "hphs"
    INTERESTING = "intr"
    NON_EPILEPTIC_SEIZURE = "nesz"


class BackgroundCode(StrEnum):
    """Time in which a reader marked nothing else."""

    BACKGROUND = "bckg"


class ClinicalClass(StrEnum):
    """What a corpus says about a whole recording or its patient."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    EPILEPSY = "epilepsy"
    NO_EPILEPSY = "no_epilepsy"


LABEL_NAMES: dict[LabelKind, frozenset[str]] = {
    LabelKind.WAVEFORM: frozenset(Waveform),
    LabelKind.STAGE: frozenset(Stage) - {Stage.UNKNOWN},
    LabelKind.EYES: frozenset(Eyes) - {Eyes.UNKNOWN},
    LabelKind.SEIZURE: frozenset(SeizureType),
    LabelKind.ARTEFACT: frozenset(kind for kind, family in FAMILY_OF.items() if family is Family.ARTEFACT),
    LabelKind.ARTEFACT_CODE: frozenset(ArtefactCode),
    LabelKind.PATTERN: frozenset(Pattern),
    LabelKind.BACKGROUND: frozenset(BackgroundCode),
    LabelKind.CLINICAL: frozenset(ClinicalClass),
    LabelKind.SEARCHED: frozenset(Waveform),
    LabelKind.UNSURE: frozenset(Waveform),
}


class EventSource(StrEnum):
    DETECTOR = "detector"
    RULE = "rule"
    READER = "reader"


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class SampleKind(StrEnum):
    CAPTION = "caption"
    MCQ = "mcq"
    BINARY = "binary"
    DESCRIPTION = "description"
    COMPLEX_MCQ = "complex_mcq"
    CONVERSATION = "conversation"
    OPEN = "open"
    GENERAL = "general"


class SampleSource(StrEnum):
    RULE = "rule"
    LLM = "llm"
    GENERAL = "general"


class Truth(StrEnum):
    """What an audit takes for true.

    `PLANTED`: labels name every waveform and labelled artefact of the corpus. `MARKS`: of a reader or a corpus, only the kinds that are
    marked somewhere in the recording. `ANNOTATION`: what the samples were made from, so that a fault of the words is told apart from one
    of the detector.
    """

    PLANTED = "planted"
    MARKS = "marks"
    ANNOTATION = "annotation"
