from builder.phases import Phases
from tests.unit.builder.printed import Printed


def test_time_is_counted_by_what_headings_say():
    now = [0.0]
    out = Printed()
    phases = Phases(out, clock=lambda: now[0])
    for seconds, heading in (
        (0.1, "Node.js app detected"),
        (0.2, "Installing dependencies"),
        (4, "Running build"),
    ):
        now[0] += seconds
        phases.step(heading)
    now[0] += 1
    phases.step("Installing more")
    now[0] += 0.5
    phases.begin("slug")
    now[0] += 0.01
    assert phases.text() == "detect 0.1 s · build 0.2 s · dependencies 4.5 s · scripts 1.0 s · slug 0.0 s"
    assert [text for _, text in out.lines][:2] == ["Node.js app detected", "Installing dependencies"]
