# The service `asd-jax serve` as a container; docs/serve.md says how to run it.
#
#     docker build -t asd-jax-serve .
#     docker run -p 127.0.0.1:8000:8000 -v ./RUN:/srv/run:ro -e ASD_JAX_TOKEN asd-jax-serve
FROM python:3.12-slim

WORKDIR /srv/asd-jax
COPY setup.py setup.cfg pyproject.toml README.md LICENSE ./
COPY asd_jax asd_jax
COPY configs configs
# Only the service's extra, and nothing of the build is kept.
RUN python -m venv /srv/venv \
    && /srv/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check ".[serve]" \
    && rm -rf build asd_jax.egg-info
# Compiled programs: a volume here keeps them over restarts. Whoever the service runs as may write.
RUN mkdir -p /srv/cache && chmod 1777 /srv/cache

ENV PATH="/srv/venv/bin:$PATH" ASD_JAX_CACHE="/srv/cache" PYTHONUNBUFFERED="1" JAX_PLATFORMS="cpu"
WORKDIR /srv/cache
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz')"]
# Others than this machine can reach it, so it starts with a token only (or with --no_token).
ENTRYPOINT ["asd-jax", "serve", "--run_dir=/srv/run", "--host=0.0.0.0", "--port=8000"]
CMD ["--max_queue=64"]
