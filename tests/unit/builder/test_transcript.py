import tracemalloc

from builder.transcript import MAX_LINES, TAIL_LINES, Capture, Transcript
from tests.unit.builder.printed import Printed


def printed(*pieces):
    out = Printed()
    transcript = Transcript(out)
    for piece in pieces:
        transcript.feed(piece)
    transcript.finish()
    return out.lines


def test_marks_of_buildpacks_are_understood():
    assert printed(b"-----> Step\n       detail\n !     warning\nplain\n") == [
        ("step", "Step"),
        ("line", "detail"),
        ("warn", "warning"),
        ("line", "plain"),
    ]


def test_lines_arrive_whole_however_they_were_cut():
    assert printed(b"on", b"e\ntw", b"o\n", b"three") == [("line", "one"), ("line", "two"), ("line", "three")]


def test_a_progress_bar_shows_its_last_state():
    assert printed(b"10%\r50%\r100%\r\n") == [("line", "100%")]


def test_bytes_that_are_no_text_stay_harmless():
    assert printed(b"a\0b\x07c\xff\x1b[31mred\n") == [("line", "abc\ufffd\x1b[31mred")]


def test_a_line_of_a_megabyte_is_cut():
    [(_, text)] = printed(*[b"x" * 10_000] * 100, b"\n")
    assert len(text) == 4096 + len(" […]")


def test_a_flood_shows_its_beginning_and_its_end_in_little_memory():
    out = Printed()
    transcript = Transcript(out)
    tracemalloc.start()
    for number in range(3000):
        transcript.feed(b"".join(b"line %d %d\n" % (number, inner) for inner in range(50)))
    transcript.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert out.lines[0] == ("line", "line 0 0")
    assert ("line", "line 2999 49") in out.lines[-3:]
    assert len(out.lines) <= MAX_LINES + TAIL_LINES + 2
    assert any(kind == "warn" and "only the end follows" in text for kind, text in out.lines)
    assert peak < 20 * 1024**2


def test_an_answer_is_kept_to_its_first_64_kilobytes():
    answer = Capture()
    for _ in range(100):
        answer.feed(b"x" * 10_000)
    assert len(answer.text) == 64 * 1024
