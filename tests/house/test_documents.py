"""Documents, settings, metrics and versions agree with the code."""

from __future__ import annotations

import re
import subprocess
import tomllib

from support.source_tree import ROOT, SOURCES, text_of
from tidings.codes import CODES
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import FIELDS


def test_every_code_is_in_the_protocol() -> None:
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    assert [code.name for code in CODES.values() if f"`{code.name}`" not in text or str(code.number) not in text] == []


def test_every_setting_and_its_metric_are_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name}`" not in text] == []


def test_every_setting_is_used() -> None:
    settings_file = ROOT / "hub/tidings_hub/config/settings.py"
    code = "\n".join(text_of(path) for path in SOURCES if path != settings_file)
    own = settings_file.read_text(encoding="utf-8")
    unused = [
        n for n in Settings.model_fields if not re.search(rf"\.{n}\b", code) and not re.search(rf"self\.{n}\b", own)
    ]
    assert unused == [], "remove these settings: no code reads them"


def test_every_metric_is_counted() -> None:
    code = "\n".join(text_of(path) for path in SOURCES if path.name not in ("metrics.py", "limits.py"))
    assert [name for name in FIELDS if not re.search(rf"\b{name}\b", code)] == []


def test_the_packages_are_typed_and_of_one_version() -> None:
    import tidings

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == tidings.__version__
    assert f"## {tidings.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all(
        (ROOT / place / "py.typed").is_file()
        for place in ("adapters/tidings", "hub/tidings_hub", "hub/tidings_notifications")
    )


def test_versions_with_known_vulnerabilities_are_not_installed() -> None:
    """Older versions have published vulnerabilities."""
    from importlib.metadata import version

    minimums = {
        "python-engineio": (4, 13, 2),
        "python-socketio": (5, 16, 4),
        "eventlet": (0, 40, 4),
        "PyJWT": (2, 15),
        "Flask": (3, 1, 3),
    }
    for name, minimum in minimums.items():
        assert tuple(int(part) for part in version(name).split(".")[:3]) >= minimum, name


def test_the_ci_only_calls_make() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[-1] == "exec make test"
    for script in ("run", "install"):
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / script)], check=True)


def test_every_public_name_exists() -> None:
    import tidings

    assert [name for name in tidings.__all__ if getattr(tidings, name) is None] == []
    assert sorted(tidings.__all__) == tidings.__all__


def test_the_architecture_names_files_and_methods_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w./-]+\.(?:py|lua))`", text))
    assert len(paths) > 60
    assert [
        path for path in paths if not any(any(ROOT.glob(f"{above}{path}")) for above in ("", "*/*/", "*/*/*/"))
    ] == []
    code = {path: text_of(path) for path in SOURCES}
    methods = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", text))
    assert methods
    for name, method in methods:
        owners = [source for source in code.values() if re.search(rf"^class {name}\b", source, re.MULTILINE)]
        assert any(re.search(rf"^    (?:async )?def {method}\b", source, re.MULTILINE) for source in owners), name


def test_links_and_citations_lead_somewhere() -> None:
    """Every `docs/page.md#heading` in code, and every link between documents, has its heading."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "sdk_js" / "README.md"]
    anchors = {page: anchors_of(page.read_text(encoding="utf-8")) for page in pages}
    broken = []
    for page in pages:
        for target, anchor in re.findall(
            r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")
        ):
            file = (page.parent / target).resolve() if target else page
            if not file.exists() or (anchor and anchor not in anchors.get(file, {anchor})):
                broken.append(f"{page.name}: {target}#{anchor}")
    for path in SOURCES:
        for target, anchor in re.findall(r"(docs/[a-z-]+\.md)(?:#([a-z0-9-]+))?", text_of(path)):
            file = ROOT / target
            if not file.exists() or (anchor and anchor not in anchors[file]):
                broken.append(f"{path.name}: {target}#{anchor}")
    assert broken == []


def anchors_of(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
