# `innverse serve` for more than one person: a user without rights, and a root that nobody writes.
#
#   docker build -t innverse .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#       --memory 4g --pids-limit 256 -p 127.0.0.1:8000:8000 innverse
#
# It prints the address with its token (-e INNVERSE_TOKEN=... sets one); docs/serve.md says the rest.
# A newer base: docker buildx imagetools inspect python:3.11-slim-bookworm, and its digest into both lines.
FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS build
WORKDIR /source
RUN python -m venv /opt/innverse
ENV PATH=/opt/innverse/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# the CPU build, alone, as in setup.sh; then what the lock has hashes of
COPY requirements/torch.txt requirements/serve.lock requirements/
RUN pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$(grep -o '^torch==.*' requirements/torch.txt)+cpu"
RUN pip install --no-deps --require-hashes -r requirements/serve.lock
COPY pyproject.toml LICENSE README.md ./
COPY src src
COPY release/faces release/faces
RUN pip install --no-deps --no-build-isolation . ./release/faces

FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin innverse
COPY --from=build /opt/innverse /opt/innverse
ENV PATH=/opt/innverse/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["innverse", "serve", "--host", "0.0.0.0", "--port", "8000"]
