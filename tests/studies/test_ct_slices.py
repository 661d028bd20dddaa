"""Slices are split by patient, and brought to one range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innverse.errors import InnverseError
from innverse.studies.ct_slices import PARTS, ct_slices


@pytest.fixture
def file(tmp_path):
    patient = np.repeat(np.arange(20), 2)
    hu = np.broadcast_to((100 * patient)[:, None, None], (40, 8, 8)).astype(np.int16)
    np.savez(tmp_path / "slices.npz", hu=hu, patient=patient)
    return tmp_path / "slices.npz"


def test_no_patient_is_in_two_parts(file):
    patients = {
        part: {round(30 * float(x.mean()) - 10) for x in ct_slices(file, part, 4)} for part in PARTS
    }
    assert patients["test"] == {0, 5, 10, 15} and patients["validation"] == {3, 13}
    assert set().union(*patients.values()) == set(range(20))
    assert sum(map(len, patients.values())) == 20


def test_hounsfield_units_become_zero_to_one(tmp_path):
    hu = np.array([-3024, -1000, 0, 2000, 3071, 500, 500, 500], np.int16).reshape(1, 2, 4)
    np.savez(tmp_path / "s.npz", hu=hu, patient=np.array([1]))
    x = ct_slices(tmp_path / "s.npz", "train", side=4)
    assert torch.allclose(x[0, 0, 0], torch.tensor([0, 0, 1 / 3, 1.0]))


def test_what_is_no_such_file_is_said_in_one_line(tmp_path, file):
    np.savez(tmp_path / "s.npz", hu=np.zeros((2, 4, 4)), patient=np.zeros(3))
    for path, part, words in (
        (tmp_path / "s.npz", "train", "patient"),
        (file, "holdout", "no part is called 'holdout'"),
    ):
        with pytest.raises(InnverseError, match=words) as caught:
            ct_slices(path, part)
        assert "\n" not in str(caught.value)
