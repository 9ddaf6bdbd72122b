"""Names on the SFU: those that the other tests expect match the vectors of `docs/protocol.md#names-on-the-sfu`."""

import pytest

from parts.names import digest


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        (("!roomid:example.com", "slot1234"), "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc"),
        (("!room:example.com", "m.call#ROOM"), "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs"),
        (
            ("@alice:example.com", "DEVICE", "member-1"),
            "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU",
        ),
        (("@alice:example.com", "memberABC"), "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs"),
    ],
)
def test_digest_matches_the_vectors(strings: tuple[str, ...], expected: str) -> None:
    assert digest(*strings) == expected
