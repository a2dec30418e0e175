"""Findings as JUnit XML, which CI services show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from eager_lmeval.commands.gate.verdict import Finding, Verdict

__all__ = ["junit"]

_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FAILED = (Verdict.REGRESSION, Verdict.IMPROVEMENT)


def junit(command: str, suites: Sequence[tuple[str, Sequence[tuple[str, Finding]]]]) -> str:
    """A suite's cases by their names: a regression or an improvement is a failure, what is inconclusive an error."""
    root = ET.Element("testsuites", name=f"eager-lmeval {command}")
    for name, cases in suites:
        verdicts = [Verdict.PASS if finding.warns else finding.verdict for _, finding in cases]
        counts = {
            "tests": len(verdicts),
            "failures": sum(verdict in _FAILED for verdict in verdicts),
            "errors": verdicts.count(Verdict.INCONCLUSIVE),
            "skipped": 0,
        }
        suite = ET.SubElement(
            root, "testsuite", {"name": _text(name)} | {what: str(count) for what, count in counts.items()}
        )
        for (title, (_, said, _)), verdict in zip(cases, verdicts, strict=True):
            message = _text(said)
            case = ET.SubElement(suite, "testcase", classname=_text(name), name=_text(title))
            kind = "failure" if verdict in _FAILED else "error" if verdict is Verdict.INCONCLUSIVE else ""
            if kind:
                ET.SubElement(case, kind, type=verdict.name.lower(), message=message).text = message
            else:
                ET.SubElement(case, "system-out").text = message
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
