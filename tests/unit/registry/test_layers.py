"""Layers: what is published, what functions keep of it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.errors import AlreadyExists, EngineError, InvalidArgument, NotFound, StaleEtag
from engine.fabric.sqlite import Sqlite
from engine.model.layer import LayerRef, LayerVersion
from engine.model.names import FunctionRef
from engine.registry.api import ConfigChange, LayerContent
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.unzip import Limits
from tests.unit.registry.zips import ordinary, pieces

F = FunctionRef("f")


async def reopened(store: Sqlite, code: LocalCodeStore) -> FunctionRegistry:
    return await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")


async def content(code: LocalCodeStore, text: str | bytes = "x = 1", **about: Any) -> LayerContent:
    blob = await code.add(pieces(ordinary({"python/dep.py": text})))
    return LayerContent(blob.sha256, **about)


async def published(registry: FunctionRegistry, code: LocalCodeStore, name: str, text: str = "x = 1") -> LayerVersion:
    return await registry.layers.publish(name, await content(code, text))


def used(registry: FunctionRegistry, ref: FunctionRef = F) -> list[LayerRef]:
    return [layer.ref for layer in registry.get(ref).config.layers]


async def test_a_version_is_what_was_published_also_for_the_next_engine(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore
) -> None:
    about: dict[str, Any] = {
        "description": "d",
        "license_info": "MIT",
        "runtimes": ("python3.11",),
        "architectures": ("arm64",),
    }
    first = await registry.layers.publish("deps", await content(code, **about))
    assert (first.ref, first.description, first.license_info) == (LayerRef("deps", 1), "d", "MIT")
    assert (first.runtimes, first.architectures) == (("python3.11",), ("arm64",))
    assert first.code_size_bytes == code.get(first.code_sha256).size_bytes
    assert first.unpacked_bytes == len("x = 1")
    second = await published(registry, code, "deps", "x = 2")
    for seen in (registry, await reopened(store, code)):
        assert seen.layers.get(LayerRef("deps", 1)) == first
        assert seen.layers.get(LayerRef("deps", 2)) == second
        assert seen.concurrency.account().code_bytes == first.code_size_bytes + second.code_size_bytes


async def test_no_number_comes_twice(registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore) -> None:
    await asyncio.gather(*(published(registry, code, "deps") for _ in range(3)))
    for number in (3, 2, 1, 7):
        await registry.layers.delete(LayerRef("deps", number))
    assert registry.layers.list(limit=10) == ([], "")
    assert registry.concurrency.account().code_bytes == 0
    again = await reopened(store, code)
    assert (await published(again, code, "deps")).ref == LayerRef("deps", 4)


async def test_a_function_and_its_versions_keep_layers_that_are_deleted(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    base, other = await published(registry, code, "base", "x = 1"), await published(registry, code, "other", "x = 2")
    await registry.create("f", ConfigChange(layers=(base.ref, other.ref)), sha256)
    await registry.versions.publish("f")
    await registry.update("f", ConfigChange(layers=(other.ref,)))
    for layer in (base, other):
        await registry.layers.delete(layer.ref)
    await registry.update("f", ConfigChange(memory_mb=256))
    for seen in (registry, await reopened(store, code)):
        assert used(seen) == [other.ref]
        assert used(seen, FunctionRef("f", "1")) == [base.ref, other.ref]
        assert seen.get(FunctionRef("f", "1")).config.layers == (base.use(), other.use())
        assert seen.referenced_code() == {sha256, base.code_sha256, other.code_sha256}
    await registry.versions.delete("f", "1")
    assert registry.referenced_code() == {sha256, other.code_sha256}
    await registry.update("f", ConfigChange(layers=()))
    assert registry.referenced_code() == {sha256}


async def test_what_nothing_uses_is_swept_and_what_a_layer_or_a_function_has_is_not(
    registry: FunctionRegistry, code: LocalCodeStore, sha256: str
) -> None:
    kept, functions = await published(registry, code, "kept", "x = 1"), await published(registry, code, "f", "x = 2")
    gone = await published(registry, code, "gone", "x = 3")
    await registry.create("f", ConfigChange(layers=(functions.ref,)), sha256)
    await registry.layers.delete(functions.ref)
    await registry.layers.delete(gone.ref)
    assert await code.sweep(registry.referenced_code(), 0) == [gone.code_sha256]
    for layer in (kept, functions):
        assert code.get(layer.code_sha256).unpacked_bytes == layer.unpacked_bytes


async def test_layers_with_the_same_content_share_it(registry: FunctionRegistry, code: LocalCodeStore) -> None:
    one, two = await published(registry, code, "one"), await published(registry, code, "two")
    assert one.code_sha256 == two.code_sha256
    await registry.layers.delete(one.ref)
    assert await code.sweep(registry.referenced_code(), 0) == []


async def test_a_function_is_refused_layers_that_it_cannot_have(
    registry: FunctionRegistry, code: LocalCodeStore, sha256: str
) -> None:
    refs = [(await published(registry, code, f"layer{number}")).ref for number in range(6)]
    newer = (await published(registry, code, "layer0", "x = 2")).ref
    gone = refs[5]
    await registry.layers.delete(gone)
    await registry.create("f", ConfigChange(layers=tuple(refs[:5])), sha256)
    before = registry.get(F)
    for layers, message in (
        ((*refs[:5], newer), "Cannot reference more than 5 layers."),
        ((refs[0], gone), "Layer version layers/layer5/versions/1 does not exist."),
        ((LayerRef("none", 1),), "Layer version layers/none/versions/1 does not exist."),
        (
            (refs[0], refs[1], newer),
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            "layers/layer0/versions/1 and layers/layer0/versions/2 are versions of the same layer.",
        ),
        ((refs[0], refs[0]), "Two different versions of the same layer"),
    ):
        for write in (
            registry.update("f", ConfigChange(layers=layers)),
            registry.create("g", ConfigChange(layers=layers), sha256),
        ):
            with pytest.raises(InvalidArgument) as refused:
                await write
            assert refused.value.message.startswith(message)
            assert list(refused.value.fields) == ["config.layers"]
    assert registry.get(F) == before
    with pytest.raises(NotFound):
        registry.get(FunctionRef("g"))


async def test_code_and_layers_together_have_a_limit(
    registry: FunctionRegistry, code: LocalCodeStore, sha256: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Limits().bytes == 262_144_000
    size = code.get(sha256).unpacked_bytes
    monkeypatch.setattr("engine.registry.layers.UNPACKED_LIMIT_BYTES", size + 20)
    half, rest = await published(registry, code, "half", "x" * 10), await published(registry, code, "rest", "y" * 10)
    more = await published(registry, code, "more", "z" * 11)
    await registry.create("f", ConfigChange(layers=(half.ref, rest.ref)), sha256)
    text = (
        f"Function code combined with layers exceeds the maximum allowed size of {size + 20} bytes. "
        f"The actual size is {size + 21} bytes."
    )
    with pytest.raises(InvalidArgument) as refused:
        await registry.update("f", ConfigChange(layers=(half.ref, more.ref)))
    assert refused.value.message == text
    larger = (await code.add(pieces(ordinary({"app.py": "a" * (size + 1)})))).sha256
    with pytest.raises(InvalidArgument) as refused:
        await registry.update("f", ConfigChange(), code_sha256=larger)
    assert refused.value.message == text
    with pytest.raises(InvalidArgument):
        await registry.create("g", ConfigChange(layers=(half.ref, rest.ref)), larger)
    await registry.update("f", ConfigChange(layers=(half.ref,)), code_sha256=larger)


async def test_every_wrong_field_of_a_layer_is_told_at_once(registry: FunctionRegistry, code: LocalCodeStore) -> None:
    wrong = LayerContent("", "d" * 257, "\ud800", ("python3.11", "cobol"), ("z80",))
    with pytest.raises(InvalidArgument) as refused:
        await registry.layers.publish("a b", wrong)
    assert set(refused.value.fields) == {
        "name", "code_blob", "description", "license_info", "runtimes", "architectures"
    }  # fmt: skip
    with pytest.raises(InvalidArgument, match="at most 15"):
        await registry.layers.publish("a", await content(code, runtimes=("python3.11",) * 16))
    with pytest.raises(NotFound):
        await registry.layers.publish("a", LayerContent("0" * 64))
    assert registry.layers.list(limit=10) == ([], "")
    names = ("python3.9", "nodejs22.x", "java8.al2", "provided.al2023", "dotnetcore3.1", "dotnet8", "go1.x", "ruby3.4")
    assert (await registry.layers.publish("a", await content(code, runtimes=names))).runtimes == names


async def test_lists_have_pages_and_filters(registry: FunctionRegistry, code: LocalCodeStore) -> None:
    for name in ("c", "a", "b"):
        for runtimes, architectures in ((("python3.11",), ("x86_64",)), (("python3.12",), ()), ((), ("arm64",))):
            await registry.layers.publish(name, await content(code, runtimes=runtimes, architectures=architectures))
    layers = registry.layers

    def names(**wanted: Any) -> list[str]:
        return [f"{one.ref.name}{one.ref.version}" for one in layers.list(limit=10, **wanted)[0]]

    assert names() == ["a3", "b3", "c3"]
    assert names(runtime="python3.11") == ["a1", "b1", "c1"]
    assert names(runtime="python3.11", architecture="arm64") == []
    page, after = layers.list(limit=2)
    assert ([one.ref.name for one in page], after) == (["a", "b"], "b")
    assert [one.ref.name for one in layers.list(limit=2, after=after)[0]] == ["c"]

    def numbers(**wanted: Any) -> tuple[list[int], int]:
        found, more = layers.list_versions("a", **{"limit": 10, **wanted})
        return [one.ref.version for one in found], more

    assert numbers() == ([3, 2, 1], 0)
    assert numbers(limit=2) == ([3, 2], 2)
    assert numbers(limit=2, after=2) == ([1], 0)
    assert numbers(architecture="x86_64") == ([1], 0)
    assert layers.list_versions("none", limit=10) == ([], 0)


async def test_a_policy_belongs_to_its_version_and_goes_with_it(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore
) -> None:
    ref = (await published(registry, code, "deps")).ref
    layers = registry.layers

    async def refused(kind: type[EngineError], call: Any) -> str:
        with pytest.raises(kind) as caught:
            await call
        return caught.value.message

    with pytest.raises(NotFound, match="No policy is associated"):
        layers.policy(ref)
    assert "No policy" in await refused(NotFound, layers.forbid(ref, "all"))
    first = await layers.permit(ref, {"Sid": "all"})
    assert layers.policy(ref) == first
    assert "already exists" in await refused(AlreadyExists, layers.permit(ref, {"Sid": "all"}))
    assert "GetLayerPolicy" in await refused(StaleEtag, layers.permit(ref, {"Sid": "b"}, revision="old"))
    second = await layers.permit(ref, {"Sid": "b"}, revision=first["RevisionId"])
    assert (await reopened(store, code)).layers.policy(ref) == second
    assert "GetLayerPolicy" in await refused(StaleEtag, layers.forbid(ref, "b", revision=first["RevisionId"]))
    assert await refused(NotFound, layers.forbid(ref, "c")) == "Statement c is not found in resource policy."
    await layers.forbid(ref, "all", revision=second["RevisionId"])
    assert layers.policy(ref)["Statement"] == [{"Sid": "b"}]
    await layers.forbid(ref, "b")
    with pytest.raises(NotFound, match="No policy is associated"):
        (await reopened(store, code)).layers.policy(ref)
    await layers.permit(ref, {"Sid": "all"})
    await layers.delete(ref)
    missing = f"Layer version {ref.resource_name()} does not exist."
    assert await refused(NotFound, layers.permit(ref, {"Sid": "b"})) == missing
    with pytest.raises(NotFound, match="does not exist"):
        (await reopened(store, code)).layers.policy(ref)
