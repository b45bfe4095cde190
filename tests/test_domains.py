"""The contract of methods for domains, for every registered one: trained, saved, loaded, called again."""
import pytest
import torch

from cdfss.data.driving import drawn_streets
from cdfss.methods.base import build_method, load_method, method_class, methods

SHORT = {  # a training of seconds for each method for domains
    "pixda": dict(source_steps=3, adapt_steps=2, tune_steps=1), "tmt": dict(source_steps=3, steps=2), "sfda": dict(source_epochs=1, epochs=1),
}


@pytest.mark.parametrize("name", [name for name in methods() if method_class(name).kind == "domains"])
def test_domains_train_save_load(name, tmp_path):
    "What every method for domains promises: trained, adapted, saved and loaded it says the same, and a finished folder is not trained again."
    source, target = (drawn_streets(look, 4, size=(32, 64), classes=("road", "building", "sky")).in_memory() for look in ("gta5", "cityscapes"))
    made = lambda: build_method(name, preset="small", device="cpu", folder=tmp_path/"run", **SHORT[name]).fit_source(source)
    method = made()
    adapt = lambda method: method.adapt(target, source=source if method.wants_source else None)
    adapt(method)
    said = method.predict(target[0].image)
    assert said.label.shape == (1, 32, 64) and said.probability.shape == (1, 3, 32, 64)
    torch.testing.assert_close(said.probability.sum(1), torch.ones(1, 32, 64))
    loaded = load_method(method.save(tmp_path/"kept"), "cpu")
    assert loaded.classes == source.classes
    assert torch.equal(loaded.predict(target[0].image).probability, said.probability)
    assert torch.equal(adapt(made()).predict(target[0].image).probability, said.probability)
