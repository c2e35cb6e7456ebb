#!/usr/bin/env python3
"""What is in the binary, out of `cargo metadata`: as CycloneDX, or with the texts of the licences.

    inventory.py sbom|licences METADATA.json
"""
import json
import pathlib
import sys


def shipped(metadata):
    """The packages that acemux-server is compiled of, without what only builds or tests it."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = next(id for id, package in packages.items() if package["name"] == "acemux-server")
    seen, ahead = set(), [root]
    while ahead:
        id = ahead.pop()
        if id in seen:
            continue
        seen.add(id)
        for edge in nodes[id]["deps"]:
            # A kind that is null is what the program itself is linked with.
            if any(kind["kind"] is None for kind in edge["dep_kinds"]):
                ahead.append(edge["pkg"])
    return sorted((packages[id] for id in seen), key=lambda package: (package["name"], package["version"]))


def sbom(packages):
    def component(package):
        entry = {
            "type": "library",
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:cargo/{package['name']}@{package['version']}",
            "licenses": [{"expression": (package["license"] or "NOASSERTION").replace("/", " OR ")}],
        }
        if package["repository"]:
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return entry

    foreign = [package for package in packages if package["source"]]
    own = next(package for package in packages if package["name"] == "acemux-server")
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "acemux", "version": own["version"]}},
        "components": [component(package) for package in foreign],
    }
    print(json.dumps(document, indent=1))


def licences(packages):
    print("# Licences of what is in the binary\n")
    texts = {}
    for package in packages:
        if not package["source"]:
            continue
        print(f"* {package['name']} {package['version']}: {package['license']} ({package['repository']})")
        folder = pathlib.Path(package["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE")):
                text = file.read_text(encoding="utf-8", errors="replace").strip()
                texts.setdefault(text, []).append(f"{package['name']} {package['version']}: {file.name}")
    for text, names in texts.items():
        print("\n## " + ", ".join(names) + "\n\n```text\n" + text.replace("```", "'''") + "\n```")


if __name__ == "__main__":
    what, file = sys.argv[1:]
    with open(file, encoding="utf-8") as opened:
        listed = shipped(json.load(opened))
    {"sbom": sbom, "licences": licences}[what](listed)
