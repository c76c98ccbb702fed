# The service, without what builds it. Run it with the data mounted read-only:
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -e MIMICIT_INSECURE=true \
#     -v "$PWD/demo:/data:ro" -v catalog:/catalog mimicit
# It asks nobody who they are then, so the port is this machine's only. For others give tokens
# (docs/security.md): -e MIMICIT_TOKENS_FILE=/run/tokens -v "$PWD/tokens:/run/tokens:ro"
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# Without pip in it, so that the final stage has none; the base image's own pip installs into it.
RUN python -m venv --without-pip /opt/mimicit
COPY requirements.txt ./
RUN python -m pip --python /opt/mimicit/bin/python install --no-cache-dir \
        --no-deps --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN python -m pip --python /opt/mimicit/bin/python install --no-cache-dir --no-deps .

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="mimicit" \
      org.opencontainers.image.description="Serves MIMIC-IT instructions and images over HTTP, read in place." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# A named volume takes over the owner of the folder it is mounted on.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin mimicit \
    && install -d -o mimicit -g mimicit /catalog
COPY --from=build /opt/mimicit /opt/mimicit
ENV PATH=/opt/mimicit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MIMICIT_CATALOG_DIR=/catalog \
    MIMICIT_HOST=0.0.0.0 \
    MIMICIT_PORT=8000
USER 10001:10001
VOLUME /catalog
EXPOSE 8000
# Up while it is indexing, too; /readyz says when the catalog is open.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['MIMICIT_PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["mimicit"]
CMD ["serve", "/data/data.yaml"]
