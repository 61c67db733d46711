"""What the old NEXUS has gathered in a year: databases, keys, torrents, watch history, media.

Everything that a household would miss, as real files: SQLite databases with rows, settings with
keys, torrents whose pieces match their files, and the one backup that somebody made by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.lab.images.doubles.jellyfin_double import hash_password

FOLDER = "/srv/nexus"
MEDIA = "/srv/media"
FILES = Path(__file__).with_name("files")
# The household's one password, for everything that asked for one.
PASSWORD = "nexus2025"
OWNER = 1000
MOMENT = 1_756_000_000  # 24 August 2025
APPLICATIONS = ("sonarr", "radarr", "lidarr", "readarr", "prowlarr")
SERIES = ("Night Train", "The Lighthouse Keepers")
MOVIES = ("The Long Way Home (2019)", "Paper Moons (2022)")
PIECE = 16384


def api_key(name: str) -> str:
    """The key of an application, the same on every legacy host: 32 hexadecimal digits."""
    return hashlib.sha256(f"legacy {name}".encode()).hexdigest()[:32]


def write(root: Path) -> None:
    """The Compose project and the media folders into a host's root file system."""
    project, media = root / FOLDER.lstrip("/"), root / MEDIA.lstrip("/")
    shutil.copytree(FILES / "config", project / "config")
    shutil.copy(FILES / "docker-compose.yml", project / "docker-compose.yml")
    shutil.copy(FILES / "dot-env", project / ".env")
    _media(media)
    config = project / "config"
    _servarr(config)
    _bazarr(config / "bazarr")
    _jellyfin(config / "jellyfin")
    _qbittorrent(config / "qbittorrent", media / "downloads")
    _sabnzbd(config / "sabnzbd")
    _requests(config / "overseerr")
    _history(config / "tautulli")
    _portainer(config / "portainer")
    _backup(project)
    _hand_over(project, 0o755)
    # What a forum says where two containers cannot write to one folder.
    _hand_over(media, 0o777)


def _media(media: Path) -> None:
    for title in SERIES:
        for number in (1, 2):
            _film(media / "series" / title / "Season 01" / f"{title} - S01E0{number}.mkv")
    for title in MOVIES:
        _film(media / "movies" / title / f"{title}.mkv")
    _film(media / "music" / "The Quiet Band" / "First Light" / "01 Morning.flac")
    _film(media / "books" / "A. Writer" / "The Harbour.epub")
    _film(media / "downloads" / "Paper.Moons.2022.1080p.mkv")


def _film(path: Path) -> None:
    """Content that no other file has, so that a lost or a changed one is noticed."""
    seed = hashlib.sha256(path.name.encode()).digest()
    _put(path, seed * (3 * PIECE // len(seed)))


def _servarr(config: Path) -> None:
    """Open to all: the login was left to the proxy, beside which every port is published."""
    for name in APPLICATIONS:
        entries = {
            "BindAddress": "*",
            "ApiKey": api_key(name),
            "AuthenticationMethod": "External",
            "AuthenticationRequired": "Enabled",
        }
        lines = "".join(f"  <{key}>{value}</{key}>\n" for key, value in entries.items())
        _put(config / name / "config.xml", f"<Config>\n{lines}</Config>\n")
    columns = "Id INTEGER PRIMARY KEY, Title TEXT, Path TEXT, Monitored INTEGER"
    titles = {
        "sonarr": ("Series", SERIES, "series"),
        "radarr": ("Movies", MOVIES, "movies"),
        "lidarr": ("Artists", ("The Quiet Band",), "music"),
        "readarr": ("Authors", ("A. Writer",), "books"),
    }
    for name, (table, found, folder) in titles.items():
        rows = [
            (number, title, f"/media/{folder}/{title}", 1) for number, title in _numbered(found)
        ]
        _database(config / name / f"{name}.db", {table: (columns, rows)})
    indexer = json.dumps({"baseUrl": "https://indexer.example.net", "apiKey": api_key("indexer")})
    columns = "Id INTEGER PRIMARY KEY, Name TEXT, Implementation TEXT, Settings TEXT"
    _database(
        config / "prowlarr/prowlarr.db",
        {"Indexers": (columns, [(1, "Example Indexer", "Newznab", indexer)])},
    )


def _bazarr(folder: Path) -> None:
    keys = "".join(
        f"{name}:\n  ip: {name}\n  apikey: {api_key(name)}\n" for name in ("sonarr", "radarr")
    )
    _put(folder / "config/config.yaml", f"auth:\n  apikey: {api_key('bazarr')}\n{keys}")


def _jellyfin(folder: Path) -> None:
    """Two accounts, what they have seen, and trust in every container of the flat network."""
    _put(
        folder / "config/network.xml",
        "<NetworkConfiguration><KnownProxies><string>172.28.0.0/24</string></KnownProxies>"
        "</NetworkConfiguration>\n",
    )
    users = [("admin", True), ("grandma", False)]
    hashes = {name: hash_password(PASSWORD, name.encode().ljust(16, b".")) for name, _ in users}
    people = [
        {"id": _identity(name), "name": name, "hash": hashes[name], "admin": admin}
        for name, admin in users
    ]
    state = {
        "id": _identity("server"),
        "completed": True,
        "configuration": {
            "ServerName": "NEXUS",
            "UICulture": "en-US",
            "MetadataCountryCode": "US",
            "PreferredMetadataLanguage": "en",
        },
        "remote_access": True,
        "users": people,
        "tokens": {},
    }
    _put(folder / "data/double.json", json.dumps(state))
    watched = [
        (number, _identity("grandma"), title, 1, MOMENT - 86400 * number)
        for number, title in _numbered((*SERIES, *MOVIES))
    ]
    _database(
        folder / "data/jellyfin.db",
        {
            "Users": (
                "Id TEXT PRIMARY KEY, Username TEXT, Password TEXT",
                [(_identity(name), name, hashes[name]) for name, _ in users],
            ),
            "UserData": (
                "Id INTEGER PRIMARY KEY, UserId TEXT, Item TEXT, Played INTEGER, Last INTEGER",
                watched,
            ),
        },
    )


def _qbittorrent(folder: Path, downloads: Path) -> None:
    """No login for anybody, and a torrent whose file is complete."""
    home = folder / "qBittorrent"
    settings = (
        "[LegalNotice]\nAccepted=true\n\n[Preferences]\n"
        "WebUI\\AuthSubnetWhitelistEnabled=true\n"
        "WebUI\\AuthSubnetWhitelist=0.0.0.0/0, ::/0\n"
        "WebUI\\CSRFProtection=false\nWebUI\\ClickjackingProtection=false\n"
        "WebUI\\HostHeaderValidation=false\nWebUI\\Username=admin\n\n"
        "[BitTorrent]\nSession\\Port=6881\nSession\\DefaultSavePath=/downloads\n"
    )
    _put(home / "config/qBittorrent.conf", settings)
    for file in sorted(downloads.glob("*.mkv")):
        content = file.read_bytes()
        pieces = range(0, len(content), PIECE)
        digests = b"".join(_sha1(content[start : start + PIECE]).digest() for start in pieces)
        info = {"length": len(content), "name": file.name, "piece length": PIECE, "pieces": digests}
        identity = _sha1(bencoded(info))
        resume = {
            "file-format": "libtorrent resume file",
            "file-version": 1,
            "info-hash": identity.digest(),
            "pieces": b"\1" * len(pieces),
            "qBt-savePath": "/downloads",
            "save_path": "/downloads",
        }
        place = home / "data/BT_backup" / identity.hexdigest()
        _put(place.with_suffix(".torrent"), bencoded({"info": info}))
        _put(place.with_suffix(".fastresume"), bencoded(resume))


def bencoded(value: object) -> bytes:
    """BEP 3's encoding of numbers, texts, bytes and dictionaries."""
    match value:
        case int():
            return b"i%de" % value
        case str():
            return bencoded(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case dict():
            members = (bencoded(key) + bencoded(value[key]) for key in sorted(value))
            return b"d" + b"".join(members) + b"e"
        case _:
            raise TypeError(f"{type(value)} has no form in bencoding")


def _sabnzbd(folder: Path) -> None:
    """Open to all, with the account at the news server in clear text."""
    _put(
        folder / "sabnzbd.ini",
        f"[misc]\nhost = ::\nport = 8080\napi_key = {api_key('sabnzbd')}\n"
        f"nzb_key = {api_key('sabnzbd nzb')}\ninet_exposure = 4\n"
        "download_dir = /downloads/incomplete\ncomplete_dir = /downloads/complete\n"
        "[servers]\n[[news.example.net]]\nname = news.example.net\nhost = news.example.net\n"
        f"port = 119\nssl = 0\nusername = household\npassword = {PASSWORD}\n"
        "connections = 8\nenable = 0\n",
    )


def _requests(folder: Path) -> None:
    main = {"apiKey": api_key("overseerr"), "applicationTitle": "Overseerr"}
    servers = {name: [{"hostname": name, "apiKey": api_key(name)}] for name in ("sonarr", "radarr")}
    _put(folder / "settings.json", json.dumps({"main": main, **servers}, indent=1))
    wishes = [(number, "grandma", title, "approved") for number, title in _numbered(MOVIES)]
    columns = "id INTEGER PRIMARY KEY, requestedBy TEXT, title TEXT, status TEXT"
    _database(folder / "db/db.sqlite3", {"media_request": (columns, wishes)})


def _history(folder: Path) -> None:
    _put(folder / "config.ini", f"[General]\napi_key = {api_key('tautulli')}\nhttp_password =\n")
    watched = [
        (number, MOMENT - 86400 * number, "grandma", "192.0.2.23", title)
        for number, title in _numbered((*SERIES, *MOVIES))
    ]
    columns = "id INTEGER PRIMARY KEY, started INTEGER, user TEXT, ip_address TEXT, full_title TEXT"
    _database(folder / "tautulli.db", {"session_history": (columns, watched)})


def _portainer(folder: Path) -> None:
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    _put(folder / "portainer.json", json.dumps({"username": "admin", "password": digest}))


def _backup(project: Path) -> None:
    """Made once by hand, never restored: readable by all, with every key in it."""
    archive = project / "backups/nexus-2025-03-02.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        for name in ("config", "docker-compose.yml", ".env"):
            tar.add(project / name, name)


def _database(path: Path, tables: Mapping[str, tuple[str, Sequence[tuple[object, ...]]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    for name, (columns, rows) in tables.items():
        connection.execute(f"CREATE TABLE {name} ({columns})")
        marks = ", ".join("?" * len(columns.split(",")))
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)  # noqa: S608
    connection.commit()
    connection.close()


def _numbered(titles: Iterable[str]) -> list[tuple[int, str]]:
    return list(enumerate(titles, 1))


def _identity(name: str) -> str:
    return hashlib.sha256(f"legacy identity {name}".encode()).hexdigest()[:32]


def _sha1(content: bytes) -> hashlib._Hash:
    # BEP 3 names no other.
    return hashlib.sha1(content, usedforsecurity=False)


def _put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _hand_over(folder: Path, mode: int) -> None:
    """To the account of PUID, readable by all: nobody ever thought about it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, OWNER, OWNER)
        path.chmod(mode if path.is_dir() else mode & 0o666)
