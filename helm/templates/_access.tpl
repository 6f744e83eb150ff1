{{/* What does not go together. Said here, once, rather than by a server that does not come up. */}}
{{- define "campaign.checkAccess" -}}
{{- $auth := .Values.auth -}}
{{- $jwt := $auth.jwt -}}
{{- $keys := or $jwt.jwksUrl $jwt.jwks.existingSecret -}}
{{- if and $jwt.jwksUrl $jwt.jwks.existingSecret -}}
{{- fail "auth.jwt has both jwksUrl and jwks.existingSecret: say where the keys are, once" -}}
{{- end -}}
{{- if or $jwt.issuer $jwt.audience $jwt.rolesClaim $keys -}}
{{- if not (and $jwt.issuer $jwt.audience $keys) -}}
{{- fail "auth.jwt needs issuer, audience, and one of jwksUrl and jwks.existingSecret, or none of them" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.existingSecret (not .Values.monitor.enabled) -}}
{{- fail "tls.existingSecret needs monitor.enabled: Kubernetes' probes of gRPC know no TLS" -}}
{{- end -}}
{{- if and .Values.tls.clientAuthority.existingSecret (not .Values.tls.existingSecret) -}}
{{- fail "tls.clientAuthority needs tls.existingSecret: there are no clients' certificates without TLS" -}}
{{- end -}}
{{- $asked := or $auth.callers.existingSecret $jwt.issuer -}}
{{- if and (not .Values.server.insecurePublic) (not (and $asked .Values.tls.existingSecret)) -}}
{{- fail "the servers would be open to whoever reaches them: set tls.existingSecret and one of auth.callers.existingSecret and auth.jwt, or say server.insecurePublic: true where a mesh does both" -}}
{{- end -}}
{{- if and .Values.server.insecurePublic (ne .Values.service.type "ClusterIP") -}}
{{- fail "service.type has to be ClusterIP with server.insecurePublic" -}}
{{- end -}}
{{- if or $asked .Values.tls.clientAuthority.existingSecret -}}
{{- $ticks := .Values.ticks.credentials -}}
{{- if not (or $ticks.token.existingSecret $ticks.certificate.existingSecret) -}}
{{- fail "ticks.credentials has neither token.existingSecret nor certificate.existingSecret: say who the ticks are, as the servers ask" -}}
{{- end -}}
{{- if and .Values.tls.clientAuthority.existingSecret (not $ticks.certificate.existingSecret) -}}
{{- fail "ticks.credentials.certificate.existingSecret is missing: with tls.clientAuthority nobody connects without a certificate" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether `helm test` has what it needs to be let in. */}}
{{- define "campaign.hasTest" -}}
{{- $credentials := .Values.test.credentials -}}
{{- $certificate := $credentials.certificate.existingSecret -}}
{{- $needsCertificate := .Values.tls.clientAuthority.existingSecret -}}
{{- $asked := or .Values.auth.callers.existingSecret .Values.auth.jwt.issuer -}}
{{- if and .Values.test.enabled (or $certificate (not $needsCertificate)) (or $certificate $credentials.token.existingSecret (not $asked)) -}}
true
{{- end -}}
{{- end -}}

{{/* The servers' files for TLS and callers: a list of secret, key, path and variable. */}}
{{- define "campaign.accessFiles" -}}
{{- range $file := list
    (dict "secret" .Values.tls.existingSecret "key" "tls.crt" "path" "tls.crt" "variable" "CAMPAIGN_TLS_CERT_FILE")
    (dict "secret" .Values.tls.existingSecret "key" "tls.key" "path" "tls.key" "variable" "CAMPAIGN_TLS_KEY_FILE")
    (dict "secret" .Values.tls.clientAuthority.existingSecret "key" .Values.tls.clientAuthority.existingSecretKey "path" "client-ca.crt" "variable" "CAMPAIGN_TLS_CLIENT_CA_FILE")
    (dict "secret" .Values.auth.callers.existingSecret "key" .Values.auth.callers.existingSecretKey "path" "callers.yaml" "variable" "CAMPAIGN_CALLERS_FILE")
    (dict "secret" .Values.auth.jwt.jwks.existingSecret "key" .Values.auth.jwt.jwks.existingSecretKey "path" "jwks.json" "variable" "CAMPAIGN_JWKS_FILE") }}
{{- if $file.secret }}
- {{ $file | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Who may call, how much, and where to look on. */}}
{{- define "campaign.accessEnv" -}}
{{- $server := .Values.server -}}
{{- $jwt := .Values.auth.jwt -}}
- name: CAMPAIGN_LISTEN
  value: 0.0.0.0:50051
{{- if $server.insecurePublic }}
- name: CAMPAIGN_INSECURE_PUBLIC
  value: "true"
{{- end }}
{{- if .Values.monitor.enabled }}
- name: CAMPAIGN_MONITOR_LISTEN
  value: 0.0.0.0:{{ .Values.monitor.port }}
{{- end }}
{{- if not $server.reflection }}
- name: CAMPAIGN_REFLECTION
  value: "false"
{{- end }}
{{- range $variable := list
    (list "CAMPAIGN_JWT_ISSUER" $jwt.issuer)
    (list "CAMPAIGN_JWT_AUDIENCE" $jwt.audience)
    (list "CAMPAIGN_JWT_ROLES_CLAIM" $jwt.rolesClaim)
    (list "CAMPAIGN_JWKS_URL" $jwt.jwksUrl)
    (list "CAMPAIGN_MAX_CONNECTIONS" ($server.maxConnections | toString))
    (list "CAMPAIGN_MAX_CONNECTIONS_PER_ADDRESS" ($server.maxConnectionsPerAddress | toString))
    (list "CAMPAIGN_MAX_REQUESTS" ($server.maxRequests | toString))
    (list "CAMPAIGN_CONNECTION_AGE" $server.connectionAge)
    (list "CAMPAIGN_CALLER_RATE" $server.callerRate)
    (list "OTEL_EXPORTER_OTLP_ENDPOINT" $server.otlpEndpoint) }}
{{- if index $variable 1 }}
- name: {{ index $variable 0 }}
  value: {{ index $variable 1 | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What a client of the servers needs to be let in. Takes (root, credentials). */}}
{{- define "campaign.clientFiles" -}}
{{- $values := (index . 0).Values -}}
{{- $credentials := index . 1 -}}
{{- range $file := list
    (dict "secret" $values.tls.authority.existingSecret "key" $values.tls.authority.existingSecretKey "path" "ca.crt" "variable" "CAMPAIGN_CA_FILE")
    (dict "secret" $credentials.token.existingSecret "key" $credentials.token.existingSecretKey "path" "token" "variable" "CAMPAIGN_TOKEN_FILE")
    (dict "secret" $credentials.certificate.existingSecret "key" "tls.crt" "path" "tls.crt" "variable" "CAMPAIGN_CLIENT_CERT_FILE")
    (dict "secret" $credentials.certificate.existingSecret "key" "tls.key" "path" "tls.key" "variable" "CAMPAIGN_CLIENT_KEY_FILE") }}
{{- if $file.secret }}
- {{ $file | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where the servers are, for their clients in the cluster. */}}
{{- define "campaign.serverUrl" -}}
{{- if .Values.tls.existingSecret -}}
https://{{ include "campaign.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- else -}}
http://{{ include "campaign.fullname" . }}:{{ .Values.service.port }}
{{- end -}}
{{- end -}}

{{/* The one container of a pod that calls the servers, but for its name, command and resources. Takes (root, credentials). */}}
{{- define "campaign.clientContainer" -}}
{{- $files := include "campaign.clientFiles" . | fromYamlArray -}}
{{- include "campaign.container" (index . 0) }}
{{- if $files }}
  {{- include "campaign.filesMount" . | nindent 2 }}
{{- end }}
env:
  - name: CAMPAIGN_SERVER
    value: {{ include "campaign.serverUrl" (index . 0) }}
  {{- if $files }}
  {{- include "campaign.filesEnv" $files | trim | nindent 2 }}
  {{- end }}
  {{- if and (index . 1).token.existingSecret (not (index . 0).Values.tls.existingSecret) }}
  # The mesh encrypts it, as server.insecurePublic says.
  - name: CAMPAIGN_PLAINTEXT_TOKEN
    value: "true"
  {{- end }}
{{- end -}}
