"""Print the requirements of settings.ini that the lock file resolves: the library's, JupyterLab's, those of extras that tests use, and the developers'."""
from configparser import ConfigParser

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
for key in ("requirements", "lab_requirements", "timm_requirements", "medical_requirements", "coco_requirements", "dev_requirements"): print(*config["DEFAULT"][key].split(), sep="\n")
