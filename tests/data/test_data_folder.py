"""Folders of pictures in reading order."""

from __future__ import annotations

import pytest

from wholescene.data.folder import list_pictures
from wholescene.errors import InputError


def test_pictures_are_listed_in_natural_order_and_texts_are_skipped(cases):
    found = list_pictures(cases / "B09_folder")
    assert [p.name for p in found.pictures] == ["1.jpg", "2.JPG", "3.Jpeg", "4.jpg", "5.jpg", "10.png", "11.PNG"]
    assert [p.name for p in found.skipped] == ["notes.txt"]


def test_one_file_is_taken_whatever_its_name(cases):
    assert list_pictures(cases / "B09_folder" / "notes.txt").pictures == (cases / "B09_folder" / "notes.txt",)


def test_hidden_files_and_folders_are_left_alone(tmp_path):
    for name in (".hidden.png", "a.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = list_pictures(tmp_path)
    assert [p.name for p in (*found.pictures, *found.skipped)] == ["a.png"]


def test_a_folder_without_pictures_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"holds no picture among its 1 files .* it has 1 folders, which are not looked into"):
        list_pictures(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        list_pictures(tmp_path / "other")
