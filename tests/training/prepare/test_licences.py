"""The licence that a data set's README says it has."""

from __future__ import annotations

import pytest

from lightbagel_core.training.prepare.licences import licence_of


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: mit\n---\n# A set", "mit"),
        ("---\r\ntags: [a]\r\nlicense: 'cc-by-nc-4.0'  # so far\r\n---\r\n", "cc-by-nc-4.0"),
        ("\ufeff---\nlicense:\n- apache-2.0\n---\n", "apache-2.0"),
        ("---\nlicense: [cc0-1.0]\n---\n", "cc0-1.0"),
        ("---\nlicense: other\nlicense_name: pico-banana\n---\n", "pico-banana"),
        ("---\nlanguage: en\n---\nlicense: mit", ""),
        ("license: mit", ""),
        ("", ""),
    ],
)
def test_the_line_in_the_head_counts(tmp_path, text, licence):
    (tmp_path / "README.md").write_text(text, "utf-8", newline="")
    assert licence_of(tmp_path) == licence


def test_of_a_file_the_readme_beside_it_or_above(tmp_path):
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train.parquet"
    file.touch()
    assert licence_of(file) == ""
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    assert licence_of(file) == "mit"
    assert licence_of(tmp_path / "data") == ""  # whose folder lies there by chance
    (tmp_path / "data" / "README.md").write_bytes(b"---\nlicense: \xff\xfe\n---\n")
    assert licence_of(file) == "\ufffd\ufffd"
