"""What objects show of themselves: true, whole, harmless, of bounded size, and without matplotlib."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
import torch

from innverse import amortized, flows, generators, physics, solvers
from innverse.errors import InnverseError, UsageError
from innverse.fitting.schedule import History
from innverse.showing.card import Card, Facts, Note, Soft
from innverse.showing.history import Curves
from innverse.showing.marginals import Marginals
from innverse.showing.model import Tree
from innverse.showing.picture import SIDE
from innverse.showing.reconstruction import SHOWN
from innverse.showing.structure import Node, describe
from innverse.solvers import Reconstruction
from innverse.solvers.posterior.modes.joint import JointPosterior
from innverse.solvers.reconstruction import Measured
from innverse.train import Outcome

EVIL = '<script>alert("x")</script>\x1b[31m</div> & <b>'
SEEN = '<script>alert("x")</script> [31m</div> & <b>'
CUT = SEEN[:39] + "…"  # where there is little room
_ENDS = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
_VOID = ("img", "br", "path", "circle", "rect", "polyline")


class Parsed(HTMLParser):
    """Tags, words, sources and the cells of tables; what is opened is closed, in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.words, self.sources, self.cells = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open:
            self.cells[-1] += data

    def picture(self, k):
        return np.asarray(
            PIL.Image.open(io.BytesIO(base64.b64decode(self.sources[k].split(",")[1])))
        )


def seen(thing):
    """Its HTML, harmless and whole."""
    html = thing._repr_html_()
    parsed = Parsed(html)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert not re.search(r"src=|href=|https?:|url\(|@import", re.sub(r'src="data:[^"]*"', "", html))
    assert html.count("<div") == html.count("</div>")
    return parsed


def reconstruction(batch=1, shape=(1, 6, 8), draws=True, notes=(), **more):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *shape, generator=g)
    operator = physics.Denoising(noise=0.1)
    told = {"r_hat": 1 + x, "ess_bulk": 100 * (1 + x), "acceptance": torch.full((batch,), 0.75)}
    facts = {
        "z": None,
        "log_prob": torch.arange(batch) - 12.5,
        "residual": torch.arange(batch) * 0.125 + 0.25,
        "converged": torch.arange(batch) % 2 == 0,
        "status": [f"ended so {k}" for k in range(batch)],
        "evaluations": torch.arange(batch) + 17,
        "method": "posterior",
        "std": x / 4 if draws else None,
        "samples": x[None].repeat(3, *[1] * x.dim()) if draws else None,
        "diagnostics": told if draws else {},
        "notes": [list(notes) for _ in range(batch)],
        "measured": Measured(x, operator, operator.noise),
    }
    return Reconstruction(x=x, **(facts | more))


def _of(x, **more):
    r = reconstruction(**({"draws": False, "measured": None} | more))
    r.x = x
    return r


# ---- reconstructions ----------------------------------------------------------------------------


def test_a_reconstruction_is_its_picture_its_error_bar_and_what_speaks_for_it():
    r = reconstruction(notes=["a doubt"])
    parsed = seen(r)
    assert len(parsed.sources) == 3  # measured, mean, deviation
    pixels = (r.x[0, 0].double() * 255).round().numpy()
    np.testing.assert_array_equal(parsed.picture(0), pixels)
    np.testing.assert_array_equal(parsed.picture(1), pixels)
    text = " ".join(parsed.words)
    assert f"{float(r.std.max()):.2g}" in parsed.words  # the end of the scale
    assert "converged" in parsed.words and "a doubt" in text and "mean of x" in text
    found = [0, 0.25, -12.5, 1 + r.x.max(), 100 * (1 + r.x.min()), 0.75, r.std.mean(), 17]
    for cell, value in zip(parsed.cells, found, strict=False):
        assert float(cell) == pytest.approx(float(value), rel=1e-3)
    assert parsed.cells[-1] == "ended so 0"


def test_words_of_a_reconstruction_say_the_same():
    text = repr(reconstruction(batch=2, draws=False, notes=["a doubt"]))
    assert (
        text.splitlines()[0] == "Reconstruction: posterior: 2 of (1, 6, 8), 0.0 s, 1 of 2 converged"
    )
    assert "0.375" in text and "ended so 1" in text and "item 1: a doubt" in text
    assert "not converged" in repr(reconstruction(converged=torch.tensor([False])))


def test_large_batches_and_large_noisy_pictures_stay_small():
    noise = torch.rand(1, 3, 260, 200).expand(40, -1, -1, -1)
    r = _of(
        noise, batch=40, std=noise, measured=Measured(noise, physics.Denoising(noise=0.1), None)
    )
    parsed = seen(r)
    assert len(parsed.sources) == 3 * SHOWN and len(r._repr_html_()) < 1.5e6
    assert max(parsed.picture(0).shape) == SIDE
    assert any(f"{40 - SHOWN} more items" in words for words in parsed.words)
    assert f"{40 - SHOWN} more items" in repr(r) and len(repr(r)) < 2000


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.linspace(-1000, 3000, 16).view(1, 1, 4, 4), "from -1e+03 to 3e+03"),
        (torch.full((1, 1, 4, 4), torch.nan), "x"),
        (torch.rand(1, 2, 4, 4), "root mean square of 2 channels"),
        (torch.complex(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)), "x"),
        (torch.zeros(1, 3, 1, 1), "x"),
        (torch.full((1, 1, 4, 4), 7.0), "from 7 to 7"),
    ],
)
def test_numbers_of_all_kinds_become_pictures(x, said):
    parsed = seen(_of(x))
    assert len(parsed.sources) == 1 and said in parsed.words


def test_an_empty_batch_shows_itself():
    r = reconstruction(batch=0, draws=False)
    assert "0 of 0 converged" in repr(r) and not seen(r).sources


def test_values_beyond_the_picture_are_stretched_from_black_to_white():
    picture = seen(_of(torch.linspace(-1000, 3000, 16).view(1, 1, 4, 4))).picture(0)
    assert picture.min() == 0 and picture.max() == 255 and (np.diff(picture.ravel()) > 0).all()


# ---- flows and generators -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("glow", (3, 32, 32), {"levels": 3, "steps": 4, "hidden": 8, "noise": (0.01, 0.4)}),
        ("glow", (1, 12, 10), {"levels": 2, "steps": 1, "hidden": 8}),
        ("realnvp", (6,), {"condition": 2}),
        ("injective", (3,), {"latent": 2, "steps": 2, "width": 16}),
        ("injective", (1, 8, 8), {"latent": 4, "steps": 1, "width": 8}),
        ("flow_matching", (2,), {}),
        ("tarflow", (1, 8, 8), {}),
        ("residual", (2,), {}),
    ],
)
def test_a_flow_is_the_tree_of_its_layers_with_their_parameters(name, shape, options):
    flow = flows.build(name, shape, **options)
    tree = describe(flow)
    parsed = seen(flow)
    assert f"{flow.n_parameters:,}" in parsed.words and parsed.tags.count("details") > 0

    def labels(node):
        yield (f"{node.count} × " if node.count > 1 else "") + node.label
        for child in node.children:
            yield from labels(child)

    assert set(labels(tree)) <= set(parsed.words)
    assert sum(child.parameters for child in tree.children) == flow.n_parameters
    text = repr(flow)
    assert text.startswith(f"{type(flow).__name__}: {name}, {flow.n_parameters:,} parameters")


def test_parameters_of_a_level_are_those_of_its_layers():
    flow = flows.build("glow", (1, 16, 16), levels=2, steps=2, hidden=8)
    inner = flow.bijection.inner.layers[-1]  # what goes on to the second level
    size = f"{sum(p.numel() for p in inner.parameters()):,}"
    words = seen(flow).words
    assert words[words.index("Partial(first 2 channels)") + 2] == size


def test_a_condition_that_is_fixed_is_told():
    flow = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=8, noise=(0.01, 0.4))
    assert "c = 0.02" in seen(flow.at(0.02)).words and "c = 0.02" in repr(flow.at(0.02))
    vectors = flows.build("realnvp", (2,), condition=3)
    for c in (torch.rand(3), torch.rand(3).double(), [0.1, 0.2, 0.3]):
        assert "c of 3" in repr(vectors.at(c))


def test_generators_are_trees_too():
    vae = generators.build("vae", (1, 8, 8), latent=4, width=8)
    assert "encoder: DownPyramid 1 -> 8" in seen(vae).words and "VAE: vae" in repr(vae)


def test_a_flow_in_double_precision_is_shown():
    flow = flows.build("patches", (1, 16, 16), steps=1, hidden=8).double()
    assert "Cosines" in repr(flow) or "Patches" in repr(flow)
    seen(flow)


def test_endless_trees_end():
    node = Node("top", (1,), 1, 1, [Node(f"layer {k}", (1,), 1) for k in range(5000)])
    assert len(Tree(node).html()) < 100_000 and len(Tree(node).text()) < 30_000
    assert "more" in Tree(node).html() and "more lines" in Tree(node).text()


# ---- histories ----------------------------------------------------------------------------------


def points(html):
    return [
        [tuple(map(float, p.split(","))) for p in found.split()]
        for found in re.findall(r'points="([^"]*)"', html)
    ]


def test_a_history_is_its_curves_and_how_it_ended():
    held_out, training = [3.0, 2.0, 1.0, 1.5], [3.5, 2.25, 1.25, 1.0]
    h = History(held_out, training, 1.0, 4, 40, 2, 1.5, "max_epochs")
    parsed = seen(h)
    curves = points(h._repr_html_())
    assert [len(curve) for curve in curves] == [4, 4]
    (x0, top), (x1, bottom) = curves[1][0], curves[1][-1]  # 3.5 and 1.0, the ends of the axis
    for curve, losses in zip(curves, (held_out, training), strict=True):
        for k, ((x, y), loss) in enumerate(zip(curve, losses, strict=True)):
            assert x == pytest.approx(x0 + k * (x1 - x0) / 3, abs=0.1)
            assert y == pytest.approx(bottom + (loss - 1) / 2.5 * (top - bottom), abs=0.1)
    assert {"3.5", "1", "epoch 4"} <= set(parsed.words)
    assert (
        "ended: max_epochs" in parsed.words and "2 of 40 steps refused: not finite" in parsed.words
    )
    assert "best held-out loss 1 in epoch 3" in repr(h)


def test_histories_without_epochs_without_end_and_with_infinite_losses():
    assert "not ended" in repr(History()) and "svg" not in seen(History()).tags
    lost = History([torch.inf] * 3, [torch.nan] * 3, 2.0, 3)
    assert "svg" not in seen(lost).tags and "2 before the first epoch" in repr(lost)
    partly = History([torch.inf, 2.0, 1.0], [torch.nan, 2.0, 1.0], 1.0, 3)
    seen(partly)
    assert [len(curve) for curve in points(partly._repr_html_())] == [2, 2]


def test_a_long_history_stays_small_and_an_early_loss_does_not_flatten_it():
    losses = [1e6, *(1 + 1 / k for k in range(1, 20_000))]
    html = History(losses, losses, losses[-1], 20_000)._repr_html_()
    assert len(html) < 20_000
    heights = [y for _, y in points(html)[0]]
    assert max(heights[2:]) - min(heights[2:]) > 50


def test_a_run_shows_what_was_held_out_step_by_step(tmp_path):
    rows = [(10, 5.0), (20, None), (30, 4.0), (40, 3.0)]
    lines = [{"kind": "eval", "step": s, "bits_per_dim": v} for s, v in rows]
    lines.insert(1, {"kind": "train", "step": 11, "loss": 99.0})
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = Outcome(False, 40, 1, tmp_path, None, {"bits_per_dim": 3.0, "psnr": 30.25})
    parsed = seen(run)
    assert len(points(run._repr_html_())[0]) == 3 and "step 40" in parsed.words
    assert "30.25" in parsed.words and "interrupted" in repr(run) and str(tmp_path) in repr(run)
    assert "complete" in repr(Outcome(True, 1, 0, tmp_path / "gone", tmp_path / EVIL, {}))
    pytest.importorskip("matplotlib")
    assert list(run.plot().axes[0].lines[0].get_xdata()) == [10, 20, 30, 40]
    with pytest.raises(UsageError, match="nothing was judged"):
        Outcome(True, 1, 0, tmp_path / "gone", None, {}).plot()


# ---- posteriors ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    g = torch.Generator().manual_seed(0)
    theta = torch.rand(200, 2, generator=g)
    options = {"bounds": (0.0, 1.0), "max_epochs": 1, "progress": False, "names": [EVIL, "b"]}
    return amortized.fit(theta, theta + 0.1, **options)


@pytest.fixture
def posterior(trained):
    trained.default_x = None
    return trained


def test_a_posterior_names_its_parameters_until_it_has_an_observation(posterior):
    parsed = seen(posterior)
    assert CUT in parsed.words and "0 to 1" in parsed.words and "table" not in parsed.tags
    assert "\x1b" not in repr(posterior) and f"{posterior.n_simulations} simulations" in repr(
        posterior
    )


def test_marginals_of_a_posterior_are_those_of_its_draws(posterior):
    posterior.set_default_x([0.6, 0.5])
    before = torch.get_rng_state()
    parsed = seen(posterior)
    assert torch.equal(torch.get_rng_state(), before)
    draws = posterior.sample((1000,), generator=torch.Generator().manual_seed(0)).double()
    for k in range(2):
        name, *cells = parsed.cells[7 * k : 7 * k + 6]
        wanted = [draws[:, k].mean(), draws[:, k].std(), *draws[:, k].quantile(_ENDS)]
        assert [float(c) for c in cells] == pytest.approx([float(w) for w in wanted], rel=6e-3)
        assert name == (CUT if k == 0 else "b")
    assert parsed.tags.count("svg") == 3  # two histograms and the history
    assert "| b " in repr(posterior)


@pytest.mark.filterwarnings("error")
def test_what_is_far_outside_is_said_and_not_warned_of(posterior):
    posterior.set_default_x([60.0, -50.0])
    assert any("far outside the training data" in words for words in seen(posterior).words)
    assert "far outside" in repr(posterior)


def test_histograms_are_the_draws():
    draws = torch.tensor([0.0] * 5 + [1.0] * 10)[:, None]
    html = Marginals(draws, ["a"]).html()
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"/>', html)]
    assert heights == [11.0, 22.0]
    many = Marginals(torch.rand(50, 400), [str(k) for k in range(400)])
    assert "388 more" in many.text() and "388 more" in many.html() and len(many.html()) < 60_000


def test_a_joint_posterior_shows_images_and_what_else_was_unknown():
    images = reconstruction(batch=2)
    images.converged = torch.tensor([True, True])
    noise = torch.rand(500, 2, dtype=torch.float64)
    r = {"noise": torch.tensor([1.0, 3.0])}
    joint = JointPosterior(images, noise, None, r, {"noise": torch.ones(2)})
    parsed = seen(joint)
    assert float(parsed.cells[1]) == pytest.approx(float(noise[:, 0].mean()), rel=6e-3)
    assert "noise of item 1" in parsed.words and "1 of 2 converged" in parsed.words
    assert len(parsed.sources) == 6 and "noise of item 1" in repr(joint)


def test_both_directions_show_themselves():
    theta = torch.rand(200, 2)
    both = amortized.fit_bidirectional(theta, theta[:, :1], layers=1, max_epochs=1, progress=False)
    assert "2 parameters given x (1)" in repr(both) and "svg" in seen(both).tags


def test_posteriors_of_images_and_weighed_ones_say_what_they_are_made_of(posterior):
    model = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, condition=3)
    told = {"physics": "inpainting", "options": {}, "noise": [0.05, 0.05], "sigma": 0.02}
    model.measurement = told
    operator = physics.Inpainting.random((1, 8, 8), keep=0.5, noise=0.05)
    images = solvers.AmortisedPosterior(model, operator)
    parsed = seen(images)
    assert "0.05" in parsed.words and any(w.startswith("Inpainting: y =") for w in parsed.words)
    assert f"{model.n_parameters:,} parameters" in repr(images)
    exact = amortized.CorrectedPosterior(posterior, lambda theta, x: -theta.square().sum(1))
    assert (
        repr(exact).startswith("CorrectedPosterior: of 2 parameters") and CUT in seen(exact).words
    )


# ---- operators ----------------------------------------------------------------------------------


def test_an_operator_says_what_it_measures_and_shows_its_mask():
    mask = torch.rand(1, 1, 6, 8) > 0.5
    operator = physics.Inpainting(mask, noise=0.05, image_shape=(1, 6, 8))
    parsed = seen(operator)
    np.testing.assert_array_equal(parsed.picture(0) > 0, mask[0, 0].numpy())
    assert "GaussianNoise(sigma=0.05)" in parsed.words and "1 × 6 × 8" in parsed.words
    assert "linear, solved in closed form" in repr(operator)


def test_a_kernel_is_seen_as_bright_as_its_largest_weight():
    kernel = physics.gaussian_kernel(2.0, 9)
    assert seen(physics.Blur(kernel)).picture(0).max() == 255


def test_every_operator_shows_itself():
    for name in physics.names():
        operator = physics.build(name, (1 if name == "mri" else 3, 16, 16))
        assert type(operator).__name__ in repr(operator) or operator.name in repr(operator)
        assert len(repr(operator)) < 3000
        seen(operator)


def test_an_operator_of_ones_own_is_described_by_its_own_words():
    class Mine(physics.LinearPhysics):
        __doc__ = EVIL + "\n\n    More of it."

        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([[True, False], [False, False]]))
            self.register_buffer("kernel", torch.eye(3).to_sparse())
            self.register_buffer("seen", torch.zeros(2, dtype=torch.complex64))

        def A(self, x):
            return x

        A_adjoint = A

    parsed = seen(Mine())
    assert SEEN in parsed.words and "More of it" not in repr(Mine())
    assert parsed.picture(0).tolist() == [[255, 0], [0, 0]] and "2 × 2, from 0 to 1" in parsed.words
    Mine.__doc__ = None
    assert repr(Mine()).startswith("Mine\n")


# ---- all of them --------------------------------------------------------------------------------


def test_what_anybody_wrote_is_shown_as_it_is_and_cut():
    long = EVIL * 1000
    blocks = [Facts({long: long}), Note(long), Soft(long), Curves({EVIL: [1.0, 2.0]})]
    card = Card(long, long, False, long, blocks)
    parsed = Parsed(card.html())
    assert "script" not in parsed.tags and "b" in parsed.tags  # that of the title
    assert len(card.html()) < 15_000 and len(card.text()) < 2200
    assert "\x1b" not in card.text() and len(card.text().splitlines()) == 4


def test_hostile_names_of_methods_states_and_models_are_escaped():
    r = reconstruction(method=EVIL, status=[EVIL], notes=[EVIL], reason=EVIL)
    r.notes = [[EVIL]]
    assert sum(SEEN in words for words in seen(r).words) == 4
    flow = flows.build("realnvp", (2,), layers=1, width=4)
    flow.name = EVIL
    assert any(SEEN in words for words in seen(flow).words)


def test_nothing_but_plots_needs_matplotlib():
    code = """
import sys
sys.modules["matplotlib"] = None
import torch, innverse
from innverse.fitting.schedule import History
h = History([2.0, 1.0], [2.0, 1.0], 1.0, 2, 4)
r = innverse.solve(torch.rand(1, 1, 8, 8), innverse.physics.Denoising(noise=0.1), method="tv", lam=0.05)
for thing in (h, r, innverse.flows.build("realnvp", (2,)), r.measured.physics):
    assert repr(thing) and thing._repr_html_()
for thing in (h, r):
    try:
        thing.plot()
    except innverse.errors.InnverseError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['plots need matplotlib: pip install "innverse[demo]"'] * 2


# ---- figures ------------------------------------------------------------------------------------


def test_a_figure_of_a_reconstruction_has_its_numbers():
    pytest.importorskip("matplotlib")
    r = reconstruction(batch=2)
    figure = r.plot()
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in drawn] == [
        "measured",
        "mean of x",
        "standard deviation",
    ] * 2
    np.testing.assert_allclose(drawn[5].images[0].get_array(), r.std[1, 0], rtol=1e-6)
    assert drawn[2].images[0].get_clim()[1] == pytest.approx(float(r.std.max()))
    assert "not converged" in drawn[3].get_ylabel()
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="nothing to draw"):
        r.plot(items=0)


def test_figures_of_histories_and_posteriors(posterior):
    pytest.importorskip("matplotlib")
    axes = History([3.0, 1.0, 2.0], [3.0, 2.0, 1.0], 1.0, 3).plot().axes[0]
    assert list(axes.lines[0].get_ydata()) == [3.0, 1.0, 2.0]
    assert (axes.lines[2].get_xdata()[0], axes.lines[2].get_ydata()[0]) == (2, 1.0)
    with pytest.raises(UsageError, match="no epoch"):
        History().plot()
    pairs = posterior.plot(torch.tensor([0.6, 0.5]), draws=200, truth=[0.5, 0.4])
    assert sum(axes.get_visible() for axes in pairs.axes) == 3
    assert len(pairs.axes[2].lines[0].get_xdata()) == 200
    with pytest.raises(InnverseError, match="truth has 3 numbers"):
        posterior.plot(torch.tensor([0.6, 0.5]), truth=[1, 2, 3])
    noise = torch.rand(300, 1)
    joint = JointPosterior(reconstruction(), noise, noise + 1, {}, {})
    assert sum(axes.get_visible() for axes in joint.plot().axes) == 3
