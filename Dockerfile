# The images of docker-compose.yml, and the versions of all that they are made of.
FROM node:22-alpine AS browser
WORKDIR /src/sdk_js
COPY sdk_js/ ./
RUN npm ci --silent && npm run --silent vendor && npm run --silent bundle

FROM python:3.13-slim AS build
RUN python -m venv /opt/tidings
WORKDIR /src
COPY LICENSE README.md pyproject.toml ./
COPY adapters/ adapters/
COPY hub/ hub/
COPY nginx/ nginx/
COPY --from=browser /src/hub/tidings_hub/web/static/vendor/ hub/tidings_hub/web/static/vendor/
RUN /opt/tidings/bin/pip install --no-cache-dir '.[server,kombu,socketio,outbox,notifications]' 'psycopg[binary]>=3.2.4'

# `tidings`, whatever the arguments.
FROM python:3.13-slim AS hub
ENV PATH=/opt/tidings/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/tidings/ /opt/tidings/
COPY examples/tidings.toml /etc/tidings/tidings.toml
# A new volume takes the owner of this folder.
RUN install -d -o 10001 -g 10001 /data
USER 10001:10001
EXPOSE 8000
CMD ["tidings", "serve"]

FROM build AS build-backend
RUN /opt/tidings/bin/pip install --no-cache-dir 'gunicorn>=27'

FROM python:3.13-slim AS backend
ENV PATH=/opt/tidings/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build-backend /opt/tidings/ /opt/tidings/
COPY examples/ /app/
USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "--chdir", "/app", "shop:app"]

FROM redis:8.2-alpine AS redis
USER 999:1000

FROM nginx:1.30-alpine AS nginx
COPY nginx/nginx.conf /etc/nginx/nginx.conf
COPY nginx/templates/ /etc/nginx/templates/
COPY --from=build /src/hub/tidings_hub/web/static/ /usr/share/nginx/static/
USER 101:101
EXPOSE 8080
