"""The packages: all below asd_jax/, and configs/, which is installed as asd_jax.configs."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["asd_jax", "asd_jax.*"]), "asd_jax.configs"])
