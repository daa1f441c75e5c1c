"""What holds for every HTML page that is written."""

from html.parser import HTMLParser


def check_page(text: str, parts: list[str]) -> None:
    """Well-formed, nothing from elsewhere, under 1 MB, and all parts there."""
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("link", "img", "iframe")
            assert not {"src", "srcset", "data"} & {name for name, _ in attrs}
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

    Reader().feed(text)
    assert open_tags == []
    assert "http" not in text
    assert len(text.encode()) < 1_000_000
    for part in parts:
        assert part in text
