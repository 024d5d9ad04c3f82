"""Settings: from where, in which order, and every wrong one named."""

import pytest

from controlplane.settings import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    import os  # noqa: PLC0415

    for name in [n for n in os.environ if n.startswith("EMRCTL_")]:
        monkeypatch.delenv(name)


def test_options_win_over_environment_over_file_over_default(tmp_path, monkeypatch):
    assert read_settings(data_dir=tmp_path).port == 8080
    (tmp_path / "emrctl.toml").write_text("port = 8081\nat_once = 3\n")
    assert read_settings(data_dir=tmp_path).port == 8081
    monkeypatch.setenv("EMRCTL_PORT", "8082")
    assert read_settings(data_dir=tmp_path).port == 8082
    settings = read_settings(data_dir=tmp_path, port=8083)
    assert (settings.port, settings.at_once) == (8083, 3)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"port": 0}, "port"),
        ({"language": "fr"}, "language"),
        ({"zone": "Asia/Quang_Ngai"}, "Quang_Ngai"),
        ({"at_once": "many"}, "at_once"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, options, word):
    with pytest.raises(SettingsError, match=word):
        read_settings(data_dir=tmp_path, **options)


def test_a_broken_file_is_a_sentence(tmp_path):
    (tmp_path / "emrctl.toml").write_text("port = = 1\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(data_dir=tmp_path)


def test_every_setting_is_described():
    assert all(info.description for info in Settings.model_fields.values())
