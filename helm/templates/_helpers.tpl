{{/* Names leave room for the longest suffix, "-tick-hourly": a CronJob's name has at most 52 characters. */}}
{{- define "campaign.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Which pods are meant. Takes (root, component). Never has a version: selectors can't be changed. */}}
{{- define "campaign.selectorLabels" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object. Takes (root, component). */}}
{{- define "campaign.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "campaign.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ $root.Chart.Name }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end -}}

{{- define "campaign.image" -}}
{{- $repository := required "image.repository is missing: name an image with campaignd, campaign-tick and campaignctl on its PATH" .Values.image.repository -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Whom pods run as. Takes (root, component). What the release creates is not there yet when the migration runs. */}}
{{- define "campaign.serviceAccountName" -}}
{{- $account := (index . 0).Values.serviceAccount -}}
{{- if not $account.create -}}
{{- $account.name | default "default" -}}
{{- else if eq (index . 1) "migration" -}}
default
{{- else -}}
{{- $account.name | default (include "campaign.fullname" (index . 0)) -}}
{{- end -}}
{{- end -}}

{{/* What every pod has: no rights, no token, where it may run. Takes (root, component). Ends with its volumes. */}}
{{- define "campaign.podSpec" -}}
{{- $values := (index . 0).Values -}}
serviceAccountName: {{ include "campaign.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
{{- end -}}

{{/* What every container has, but name and resources. Ends with its mounts. */}}
{{- define "campaign.container" -}}
image: {{ include "campaign.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* When a Job's pod is not tried again. Takes the container's name. */}}
{{- define "campaign.podFailurePolicy" -}}
rules:
  # Wrong use: trying again doesn't help. Any other code does.
  - action: FailJob
    onExitCodes:
      containerName: {{ . }}
      operator: In
      values: [2]
  # The node went away, which is nobody's failure.
  - action: Ignore
    onPodConditions:
      - type: DisruptionTarget
        status: "True"
{{- end -}}

{{/* The volume of files from secrets. Takes a list of secret, key and path. */}}
{{- define "campaign.filesVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
    {{- range . }}
      - secret:
          name: {{ .secret | quote }}
          items:
            - key: {{ .key | quote }}
              path: {{ .path }}
    {{- end }}
{{- end -}}

{{- define "campaign.filesMount" -}}
- name: secrets
  mountPath: /etc/campaign
  readOnly: true
{{- end -}}

{{/* The variables that name these files. */}}
{{- define "campaign.filesEnv" -}}
{{- range . }}
- name: {{ .variable }}
  value: /etc/campaign/{{ .path }}
{{- end }}
{{- end -}}

{{/* The environment variables that servers, migration and purge have. Takes (root, the secret of the database's URL). */}}
{{- define "campaign.databaseEnv" -}}
{{- $values := (index . 0).Values -}}
{{- $secret := index . 1 -}}
- name: CAMPAIGN_DATABASE_URL
{{- if $values.sqlite.enabled }}
  value: sqlite:///var/lib/campaign/campaign.db
{{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ required "database.existingSecret is missing: name the secret that holds the database's URL" $secret.existingSecret | quote }}
      key: {{ $secret.existingSecretKey | quote }}
{{- end }}
- name: CAMPAIGN_LOG_FORMAT
  value: {{ $values.server.logFormat }}
- name: CAMPAIGN_LOG
  value: {{ $values.server.log | quote }}
{{- end -}}

{{/* Whether there may be more than one server, so that some can go while others stay. */}}
{{- define "campaign.hasReplicas" -}}
{{- if gt (int (ternary .Values.autoscaling.minReplicas .Values.server.replicas .Values.autoscaling.enabled)) 1 -}}
true
{{- end -}}
{{- end -}}
