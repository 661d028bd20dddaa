"""The whole comparison, its table, its verdicts and its page."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import InputError, ShapeError, UsageError
from innverse.studies.compare import Data, Settings, claims, compare, make_page, table_of

QUICK = Settings(draws=20, importance=4, searched=3, restarts=1, steps=5, memory_batch=4)


@pytest.fixture
def found(three, images):
    other = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8)
    return compare(three[::-1], Data(images, "noise", other, "other noise"), QUICK)


def test_every_claim_has_its_numbers(found):
    assert found.labels == ["INN", "VAE", "GAN"]
    rows = {row["key"]: row for row in table_of(found)}
    assert {row["claim"] for row in rows.values()} == {
        "likelihood", "latent", "range", "memory", "cost", "code", "samples",
    }  # fmt: skip
    assert rows["bits_per_dim"]["GAN"] is None and rows["bits_per_dim"]["VAE"] > 0
    assert rows["noised_bits_per_dim"]["INN"] > 0 and rows["noised_bits_per_dim"]["VAE"] > 0
    assert rows["test_psnr"]["INN"] > 60 > rows["test_psnr"]["VAE"]
    assert rows["other_worst_error"]["INN"] < 1e-3 < rows["other_worst_error"]["GAN"]
    assert rows["latents"] == {"claim": "code", "key": "latents", "measure": "numbers in a latent",
                               "INN": 256, "VAE": 4, "GAN": 4}  # fmt: skip
    assert rows["kept"]["INN"] == 4 and rows["kept_psnr"]["INN"] < 60
    assert rows["parameters"]["INN"] == pytest.approx(
        found.contestants[0].model.n_parameters / 1000
    )
    assert all(rows[f"frechet_at_{t}"][label] > 0 for t in ("0.7", "1") for label in found.labels)


def test_the_page_stands_alone_and_says_all_of_it(found):
    html = make_page(found, "Three models", "innverse compare", "No budget.").html()
    assert "<script" not in html and "http" not in html
    for claim in claims(found):
        assert claim.title in html
    nav = html[html.index("<nav>") : html.index("</nav>")]
    assert nav.count("<li>") == 8
    assert html.count("<img") == 2 + 1 + 4  # ranges, depth, samples
    assert "not with a published FID" in html and "sigma = 0.01" in html
    assert "The GAN has no likelihood" in html
    assert "beta = " not in html
    found.contestants[1].model.beta = 4.0
    assert "beta = 4," in make_page(found, "Three models", "innverse compare", "No budget.").html()


def test_verdicts_follow_the_numbers(found):
    verdicts = {claim.key: claim for claim in claims(found)}
    assert "nevertheless" not in verdicts["likelihood"].verdict(found) or (
        found.get("VAE", "bits_per_dim") < found.get("INN", "bits_per_dim")
    )
    found.numbers["INN"]["bits_per_dim"], found.numbers["VAE"]["bits_per_dim"] = 6.0, 5.0
    assert "nevertheless the better" in verdicts["likelihood"].verdict(found)
    found.numbers["INN"]["bits_per_dim"] = 4.0
    assert "nevertheless" not in verdicts["likelihood"].verdict(found)
    found.depth = {"store": {4: 100, 8: 200}, "reversible": {4: 50, 8: 51}}
    assert (
        "2.0 times what it was" in (text := verdicts["memory"].verdict(found))
        and "it is flat." in text
    )
    found.depth["reversible"][8] = 90
    assert "not flat here" in verdicts["memory"].verdict(found)


def test_an_inn_alone_and_a_pair(three, images):
    data = Data(images, "a", images, "b")
    alone = compare(three[:1], data, QUICK)
    assert alone.labels == ["INN"]
    make_page(alone, "t", "c", "b").html()
    pair = compare([three[0], three[2]], data, QUICK)
    html = make_page(pair, "t", "c", "b").html()
    assert "VAE's" not in html


def test_progress_names_what_is_measured(three, images):
    seen = []
    compare(three[:1], Data(images, "", images, ""), QUICK, lambda *step: seen.append(step))
    assert [note for _, _, note in seen] == [
        f"{what} of the INN" for what in ("likelihoods", "latents", "ranges", "costs", "samples")
    ]


def test_refuses_what_cannot_be_compared(three, images):
    data = Data(images, "", images, "")
    with pytest.raises(UsageError, match="one INN"):
        compare(three[1:], data, QUICK)
    with pytest.raises(UsageError, match="one VAE"):
        compare([*three, three[1]], data, QUICK)
    with pytest.raises(ShapeError):
        compare(three, Data(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), "", images, ""), QUICK)
    with pytest.raises(InputError, match="at least 4"):
        compare(three, Data(images[:2], "", images, ""), QUICK)
