"""The nouns, in the order of the route: asset, fact, reply, observation, check, finding, criterion, scorecard.

It refuses to do anything: no clock, no file, no device. Times are timezone-aware UTC and end in ``_at``;
durations carry their unit in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

Value = Any
"""What a reader makes of bytes: None, bool, int, float, str, or lists and string-keyed dicts of these."""


class Outcome(StrEnum):
    """How one look at a device, or one question in it, ended. Only ``answered`` carries a value."""

    ANSWERED = "answered"
    NO_ADDRESS = "no_address"  # the inventory gives none: nothing was sent
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # something answered and would not talk, or the right is missing
    TIMEOUT = "timeout"
    AUTH_FAILED = "auth_failed"
    HOST_KEY_CHANGED = "host_key_changed"
    HOST_KEY_UNKNOWN = "host_key_unknown"
    NOT_SUPPORTED = "not_supported"  # the device lacks the program or the OID
    GARBLED = "garbled"  # bytes came, and the reader could not read them


class Verdict(StrEnum):
    """The six words, from a finding up to a level. Only ``met`` counts."""

    MET = "met"
    NOT_MET = "not_met"
    STALE = "stale"
    UNKNOWN = "unknown"
    WAIVED = "waived"
    NOT_APPLICABLE = "not_applicable"


class Standing(StrEnum):
    """How far a criterion's text can be relied on. Only the first two are scored."""

    CONFIRMED = "confirmed"  # the official text was seen by the hospital or by us
    SECOND_HAND = "second_hand"  # quoted or paraphrased by a source that says it read the text
    DRAFT = "draft"  # recalled, a draft, or not to be used for scoring: decides nothing


@dataclass(frozen=True)
class Words:
    """One sentence in both tongues; both or neither."""

    vi: str
    en: str

    def in_(self, lang: str) -> str:
        """The sentence in ``vi`` or ``en``."""
        return self.en if lang == "en" else self.vi


@dataclass(frozen=True)
class Reason:
    """Why something is so: a code and figures. Faces turn it into a sentence (texts: ``reason.<code>``)."""

    code: str
    figures: Mapping[str, Any] = field(default_factory=dict)


DEVICES = (
    "server",
    "virtual_machine",
    "workstation",
    "mobile",
    "printer",
    "modality",
    "switch",
    "access_point",
    "firewall",
    "ups",
    "nas",
    "external_storage",
)
"""The kinds of asset that a hospital's inventory must hold, or say that it has none of."""

SITE = "site"
"""The asset that stands for the hospital itself: what people declare and what is derived for the whole house."""

DECLARED = "declared."
"""Facts of this prefix are a person's word about the criterion named behind it, observed on the ``site``."""


class Declared(StrEnum):
    """What kind of word a person gave about a criterion."""

    DOCUMENT = "document"  # a signed document proves it
    ATTESTATION = "attestation"  # somebody answerable declares it, with or without a photograph
    OTHER_VALUE = "other_value"  # a suggested value was replaced, with written reasoning
    NOT_APPLICABLE = "not_applicable"  # the condition of a conditional requirement does not hold here
    WITHDRAWN = "withdrawn"  # the word before is taken back


class Proof(StrEnum):
    """What a criterion's verdict rests on."""

    MEASURED = "measured"  # checks on observed facts alone
    DECLARED = "declared"  # a person's word alone
    MIXED = "mixed"  # checks that prove a part, and a person's word for the rest
    NONE = "none"  # nothing yet


# ------------------------------------------------------------------------------------------------ asking


@dataclass(frozen=True)
class Asset:
    """A thing of the hospital that can be looked at: one host of the inventory, or the ``site`` itself."""

    name: str
    kind: str  # one of collect.inventory.KINDS: server workstation printer switch ... site
    roles: tuple[str, ...]  # every inventory group it is in, sorted; checks name these
    title: Words
    department: str = ""
    transports: tuple[str, ...] = ()  # which of local, ssh, snmp, service may reach it
    address: str | None = None  # None: no address yet, and not one packet is sent
    access: Mapping[str, Any] = field(default_factory=dict)  # ansible_* and emr_* variables; never a secret
    fields: Mapping[str, str] = field(default_factory=dict)  # what the hospital declares: owner, location, mac, ...


@dataclass(frozen=True)
class Fact:
    """A question and a pure reader.

    ``ask`` is one shell command text (family ``shell``), the OIDs (family ``snmp``), the question in words (family
    ``service``, whose paths and ports the inventory gives), or what the control plane itself rests on (family
    ``record``: facts, registers, the inventory), space separated.
    ``reader`` gets the reply's text and returns a value, or raises ``ValueError`` for bytes it cannot read.
    """

    name: str  # subject.attribute, for example disk.usage
    family: str  # shell | snmp | service | record
    ask: str
    reader: Callable[[str], Value]
    unit: str  # of the value or of its figures, in words: "percent per filesystem", "-" when it has none
    source: str  # the manual page, file or MIB object it rests on
    kinds: tuple[str, ...] = ()  # asset kinds it is asked of; empty: every asset of the family
    privileged: bool = False  # the command reads something only root may read
    keep_raw: bool = True  # False when a raw reply could hold a name or a key


@dataclass(frozen=True)
class Reply:
    """What came back for one fact: bytes, or why there are none."""

    fact: str
    outcome: Outcome
    asked: str  # the exact command text or OIDs
    raw: bytes = b""
    detail: str = ""  # one sentence for the engineer, English, no secret


@dataclass(frozen=True)
class Look:
    """One visit to one asset over one transport. A look never raises: its outcome says how it went."""

    asset: str
    transport: str
    outcome: Outcome
    at: datetime
    duration_ms: int
    collector: str  # transport and version, for example ssh/1
    detail: str = ""
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True)
class Observation:
    """A typed value that was true of an asset at a time, with the digest of the bytes it was read from."""

    asset: str
    fact: str
    outcome: Outcome
    value: Value
    unit: str
    raw_digest: str | None  # SHA-256 of the bytes in the vault; None when nothing came or raw is not kept
    asked: str
    collector: str
    first_seen_at: datetime  # when this same answer was first seen without a different one since
    seen_at: datetime  # when it was last confirmed
    id: int = 0  # its number in the record; 0 for an imagined one
    detail: str = ""


# ----------------------------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Expect:
    """Exactly one test: equals, at_most, at_least, one_of, contains, matches."""

    test: str
    bound: Any


@dataclass(frozen=True)
class Check:
    """A rule about one fact on every asset of a role; the title is a sentence that is true when met."""

    id: str
    title: Words
    fact: str
    role: str
    expect: Expect
    fresh_within: timedelta
    severity: str  # low medium high critical
    of: str | None = None  # which figure of the value; a list of rows means each row
    remedy: str | None = None  # a play's id in playbooks/plays.yaml
    fix: Words | None = None  # what to do by hand
    if_absent: str | None = None  # "not_applicable" when no asset bears the role
    serves: tuple[str, ...] = ()  # criteria that it proves, alone or together with the other checks that serve them
    partly: tuple[str, ...] = ()  # criteria that it is needed for but does not prove: it can only show them not met
    examples: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiver:
    """Somebody with the right accepted that a check is not met, until a day."""

    check: str
    asset: str | None  # None: on every asset
    reason: str
    approver: str
    expires_on: date


@dataclass(frozen=True)
class Finding:
    """What one check says of one asset today."""

    check: str
    asset: str
    verdict: Verdict
    reason: Reason
    observation: int | None = None  # Observation.id it rests on
    raw_digest: str | None = None


# ----------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True)
class Group:
    """One ladder of a framework: TT 54's infrastructure, or the whole of TCVN 14423."""

    id: str
    title: Words
    levels: tuple[str, ...]  # from the lowest to the highest; "1".."7" or "basic", "advanced"
    list_complete: bool  # False: the official list of its criteria was not seen, so no level can be proven
    in_force: tuple[date | None, date | None] = (None, None)  # from, until (exclusive)
    target: str | None = None  # the level the hospital set itself
    owner: str = ""  # the team answerable for it
    note: str = ""  # what is missing of the official text, English


@dataclass(frozen=True)
class Criterion:
    """One requirement of the law as data, with where it stands and how sure we are of it."""

    id: str
    framework: str
    group: str
    levels: tuple[str, ...]  # the ladder levels whose set includes it
    title: Words
    clause: str
    source: str
    standing: Standing
    scored: bool
    confidence: str  # the word of the source data: quoted, secondary, recalled ...
    kind: str = "required"  # required suggested conditional informative
    automatable: str = ""  # host network software backup interop document attestation
    section: str = ""  # the law's own area, for display
    checks: tuple[str, ...] = ()
    covered: bool = False  # some check serves it; False: its checks are needed, and all of them met proves nothing
    note: str = ""
    owner: str = ""
    max_age_days: int | None = None  # how old a document about it may be, the strictest of its levels
    draft_levels: tuple[str, ...] = ()  # levels under the draft, where ``levels`` is not known: for the preview only
    evidence_idea: str = ""  # what would prove it, English; from the source data


@dataclass(frozen=True)
class AnnexCell:
    """One cell of the table that makes an overall level of group levels (TT 54, Annex II)."""

    overall: str
    group: str
    level: str
    confidence: str
    seen: bool  # False: recalled, so no overall level may rest on it


@dataclass(frozen=True)
class Framework:
    """A law or a standard: its groups, its criteria and how a level is judged."""

    id: str
    title: Words
    source: Words  # what was read of the text, and how
    in_force: tuple[date | None, date | None]
    rule: str  # cumulative: a level needs its criteria and those below; own_set: each its own; share: no level at all
    groups: tuple[Group, ...]
    criteria: tuple[Criterion, ...]
    annex: tuple[AnnexCell, ...] = ()  # empty: the framework knows no overall level


@dataclass(frozen=True)
class Catalog:
    """Everything that is asked of the hospital, loaded whole or refused."""

    checks: Mapping[str, Check]
    frameworks: Mapping[str, Framework]
    waivers: tuple[Waiver, ...]
    digest: str  # SHA-256 of the canonical documents it was made from

    @cached_property
    def criteria(self) -> Mapping[str, Criterion]:
        """Every criterion of every framework by its id."""
        return {c.id: c for framework in self.frameworks.values() for c in framework.criteria}

    @cached_property
    def judged_by(self) -> Mapping[str, tuple[str, ...]]:
        """Check -> the criteria that it judges, alone or in part."""
        found: dict[str, list[str]] = {id_: [] for id_ in self.checks}
        for criterion in self.criteria.values():
            for check in criterion.checks:
                found[check].append(criterion.id)
        return {check: tuple(ids) for check, ids in found.items()}

    @cached_property
    def waivers_of(self) -> Mapping[str, tuple[Waiver, ...]]:
        """Check -> its waivers, in the order of the file: the first that fits decides."""
        found: dict[str, tuple[Waiver, ...]] = {}
        for waiver in self.waivers:
            found[waiver.check] = (*found.get(waiver.check, ()), waiver)
        return found


@dataclass(frozen=True)
class CriterionScore:
    """A criterion today: one word, the reason, and how many findings say what."""

    id: str
    verdict: Verdict
    reason: Reason
    findings: Mapping[str, int]  # verdict -> how many findings
    proof: Proof = Proof.NONE
    contradicted: bool = False  # somebody declared it met and a check measured that it is not


@dataclass(frozen=True)
class GroupScore:
    """A ladder today. ``proven`` and ``possible`` are levels of the group, or None for below the lowest."""

    framework: str
    group: str
    determinable: bool  # False: the list is not complete or the group is out of force, see reason
    proven: str | None
    possible: str | None
    target: str | None
    reason: Reason
    counts: Mapping[str, int]  # verdict -> scored criteria
    total: int  # scored criteria; an outcome never changes it
    drafts: int  # criteria shown apart, deciding nothing
    automated: int  # scored criteria that checks alone can prove
    judged: int = 0  # scored criteria that at least one check judges, alone or in part
    proofs: Mapping[str, int] = field(default_factory=dict)  # proof -> scored criteria that are met by it
    contradicted: int = 0  # scored criteria that were declared met and measured otherwise
    with_waivers: str | None = None  # the proven level if waivers counted: for comparison, never the level
    preview: tuple[str | None, str | None] | None = None  # (proven, possible) if every draft were law; None: no drafts


@dataclass(frozen=True)
class OverallScore:
    """A framework's overall level by its table of group levels; a pair like every level."""

    framework: str
    determinable: bool  # False: a cell of the table or a group's list was not seen
    proven: str | None
    possible: str | None
    preview: tuple[str | None, str | None]  # under the drafts and the recalled cells
    reason: Reason
    target: str | None = None


@dataclass(frozen=True)
class Scorecard:
    """The whole hospital against every framework in force. It holds no clock time: same inputs, same bytes."""

    as_of: date
    catalog_digest: str
    groups: tuple[GroupScore, ...]
    criteria: tuple[CriterionScore, ...]
    overall: tuple[OverallScore, ...] = ()
