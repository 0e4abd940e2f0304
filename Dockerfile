# syntax=docker/dockerfile:1
# One image for every role; the command chooses: campaignwatch streams | alerts | topics create | ...

FROM python:3.12.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all:
WORKDIR /build
RUN python -m venv /opt/campaignwatch
# What is installed is decided by these files, to the hash. It comes before the code, so that a change of code does not fetch it again.
# The build's own tool, setuptools, is pinned with the tools of development.
COPY requirements.txt constraints.txt ./
RUN /opt/campaignwatch/bin/pip install --require-hashes --requirement requirements.txt \
    && sed -n '/^setuptools==/,/[^\\]$/p' constraints.txt > setuptools.txt \
    && pip install --require-hashes --requirement setuptools.txt
COPY pyproject.toml README.md ./
COPY streams ./streams
COPY alerts ./alerts
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/campaignwatch/bin/pip install --no-deps wheels/*.whl \
    && /opt/campaignwatch/bin/pip check
# Compiled once, for any processor of this kind: containers are read-only and would compile at every start.
ENV NUMBA_CPU_NAME=generic
RUN /opt/campaignwatch/bin/python -m streams.ingest.warm_up

FROM python:3.12.13-slim-trixie
LABEL org.opencontainers.image.title="campaignwatch" \
      org.opencontainers.image.description="Event-driven real-time marketing monitor"
RUN groupadd --system --gid 10001 campaignwatch \
    && useradd --system --uid 10001 --gid campaignwatch --home-dir /var/lib/campaignwatch --create-home --shell /usr/sbin/nologin campaignwatch
COPY --from=build /opt/campaignwatch /opt/campaignwatch
ENV PATH=/opt/campaignwatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_LOCATOR_CLASSES=streams.compiled.Built \
    CAMPAIGNWATCH_STREAMS__HTTP_HOST=0.0.0.0 \
    CAMPAIGNWATCH_ALERTS__HTTP_HOST=0.0.0.0 \
    HEALTH_URL=http://127.0.0.1:8081/healthz
WORKDIR /var/lib/campaignwatch
USER 10001:10001
EXPOSE 8081 8082
# HEALTH_URL names the page of the role that runs; urlopen raises, and so fails, on any status above 399.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=4).read()"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["campaignwatch"]
CMD ["--help"]
