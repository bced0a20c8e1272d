"""What is kept and passed on of what a process prints."""

from cloud_fn.functions.bounded_log import BoundedLog


def test_lines_are_passed_on_once_whole_and_without_control_characters() -> None:
    log = BoundedLog()
    log.write(b"one\ntw", 0.0)
    log.write(b"o\x1b[31m\r\nthr", 0.1)
    assert log.take() == ("one", "two\N{REPLACEMENT CHARACTER}[31m")
    assert log.take() == ()
    assert log.tail() == b"one\ntwo\x1b[31m\r\nthr"


def test_so_many_lines_a_second_are_passed_on_and_the_rest_is_counted() -> None:
    log = BoundedLog(lines_per_s=2)
    log.write(b"a\nb\nc\nd\n", 0.0)
    assert log.take() == ("a", "b")
    log.write(b"e\n", 0.1)
    assert log.take() == ()
    log.write(b"f\n", 1.0)
    assert log.take() == ("(3 lines left out)", "f")


def test_a_line_without_an_end_is_cut() -> None:
    log = BoundedLog()
    for _ in range(100):
        log.write(b"x" * 1000, 0.0)
    log.write(b"y\n", 0.0)
    (line,) = log.take()
    assert line == "x" * 500


def test_only_the_last_64_kib_are_kept() -> None:
    log = BoundedLog()
    for number in range(10_000):
        log.write(f"{number:09d}\n".encode(), 0.0)
    assert len(log.tail()) == 64 << 10
    assert log.tail().endswith(b"000009999\n")
