"""The pytest plugin, in sessions of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

REGISTRY = """
[images.tiny]
kernel_url = "file://{images}/debian-tiny/vmlinuz"
initrd_url = "file://{images}/debian-tiny/initrd.img"
rootfs_url = "file://{images}/debian-tiny/rootfs.ext4"
"""


@pytest.fixture
def session(pytester: pytest.Pytester, images: Path) -> pytest.Pytester:
    """A directory whose settings name a registry with a real image, and a cache."""
    pytester.makefile(".toml", registry=REGISTRY.format(images=images))
    pytester.makeini(
        "[pytest]\nsmolvm_image = tiny\nsmolvm_registry = registry.toml\n"
        "smolvm_cache_dir = cache\naddopts = --strict-markers\n"
    )
    return pytester


def run(session: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return session.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def test_it_costs_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_was_imported(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("smolvm")
            assert not {"smolvm", "pydantic"} & set(sys.modules)
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_fixtures_and_the_mark_are_listed_with_what_they_are(pytester: pytest.Pytester) -> None:
    listed = run(pytester, "--fixtures", "--markers")
    listed.stdout.fnmatch_lines(["@pytest.mark.smolvm(image, boot_timeout, *"])
    listed = run(pytester, "--fixtures")
    listed.stdout.fnmatch_lines(
        [
            "smolvm_manager *session scope*",
            "smolvm_image *session scope*",
            "smolvm_vm *",
            "*A running VM of the test's own*",
        ]
    )


def test_a_vm_for_a_test_and_its_console_where_that_fails(session: pytest.Pytester) -> None:
    session.makepyfile(
        """
        import pytest
        from smolvm import SmolVM, VM
        from smolvm.exceptions import VMNotFoundError

        ids = []

        @pytest.mark.smolvm(mem_size_mib=128, network="none")
        class TestMarked:
            @pytest.mark.smolvm(image="tiny", mem_size_mib=256, env={"A": "marked"})
            def test_the_nearest_mark_counts(self, smolvm_vm, smolvm_image, tmp_path):
                assert isinstance(smolvm_vm, VM)
                assert smolvm_vm.run("echo $A").stdout == "marked\\n"
                assert smolvm_vm.info.mem_size_mib == 256
                assert smolvm_vm.info.kernel_path == smolvm_image("tiny").kernel_path
                assert smolvm_image("tiny") is smolvm_image("tiny")
                ids.append(smolvm_vm.vm_id)

            def test_that_fails(self, smolvm_vm):
                with pytest.raises(VMNotFoundError):
                    SmolVM.from_id(ids[0])
                smolvm_vm.run("printf 'last \\\\033[31mwords\\\\n' > /dev/console")
                assert False

        @pytest.mark.smolvm(boot_timeout=0.2, network="none")
        def test_that_does_not_boot(smolvm_vm):
            pass
        """
    )
    result = run(session)
    result.assert_outcomes(passed=1, failed=1, errors=1)
    assert result.stdout.str().count("Console of smolvm_vm") == 2
    result.stdout.fnmatch_lines(["*OperationTimeoutError*", "*Console of smolvm_vm*"])
    result.stdout.fnmatch_lines(["*Console of smolvm_vm*", "last ?31mwords"])
    assert (session.path / "cache/tiny/vmlinux.bin").is_file()
    assert not list((session.path / ".smolvm/vms").glob("*-*"))


def test_the_manager_can_be_another(session: pytest.Pytester) -> None:
    session.makeconftest(
        """
        import pytest
        from smolvm import ImageManager

        @pytest.fixture(scope="session")
        def smolvm_manager(tmp_path_factory):
            return ImageManager(tmp_path_factory.mktemp("own"), registry={})
        """
    )
    session.makepyfile(
        """
        import pytest
        from smolvm.exceptions import ImageError

        def test_it_is_used(smolvm_image):
            with pytest.raises(ImageError, match="Unknown image: 'tiny'"):
                smolvm_image("tiny")
        """
    )
    run(session).assert_outcomes(passed=1)


def test_the_environment_comes_before_the_settings(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = tmp_path / "other.toml"
    registry.write_text(
        '[images.other]\nkernel_url = "file:///nowhere"\nrootfs_url = "file:///nowhere"\n'
    )
    monkeypatch.setenv("SMOLVM_REGISTRY", str(registry))
    monkeypatch.setenv("SMOLVM_CACHE_DIR", str(tmp_path / "other"))
    session.makepyfile(
        f"""
        def test_it_counts(smolvm_manager):
            assert str(smolvm_manager.cache_dir) == {str(tmp_path / "other")!r}
            assert smolvm_manager.list_available() == ["hello", "other", "quickstart-x86_64"]
        """
    )
    run(session).assert_outcomes(passed=1)


def test_a_mark_without_names_is_told(session: pytest.Pytester) -> None:
    session.makepyfile(
        """
        import pytest

        @pytest.mark.smolvm("tiny")
        def test_it(smolvm_vm):
            pass
        """
    )
    result = run(session)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the mark smolvm takes names: smolvm(image=*"])
