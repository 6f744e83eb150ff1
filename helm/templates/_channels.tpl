{{/* The deployment's own key, and the files of secrets that the channels need: a list of secret, key, path and variable. */}}
{{- define "campaign.channelFiles" -}}
{{- $dkim := .Values.channels.email.dkim -}}
{{- if ne (empty $dkim.selector) (empty $dkim.existingSecret) -}}
{{- fail "channels.email.dkim needs both selector and existingSecret, or none of them" -}}
{{- end -}}
{{- if not (or .Values.sqlite.enabled .Values.secretKey.existingSecret) -}}
{{- fail "secretKey.existingSecret is missing: name the secret that holds what `openssl rand -base64 32` prints" -}}
{{- end -}}
{{- range $file := list
    (dict "of" .Values.secretKey "path" "secret.key" "variable" "CAMPAIGN_SECRET_KEY_FILE")
    (dict "of" .Values.webhookSecret "path" "webhook.secret" "variable" "CAMPAIGN_WEBHOOK_SECRET_FILE")
    (dict "of" .Values.eventsSecret "path" "events.secret" "variable" "CAMPAIGN_EVENTS_SECRET_FILE")
    (dict "of" .Values.authorities "path" "authorities.pem" "variable" "CAMPAIGN_CA_FILE")
    (dict "of" $dkim "path" "dkim.pem" "variable" "CAMPAIGN_DKIM_KEY_FILE") }}
{{- if $file.of.existingSecret }}
- {{ dict "secret" $file.of.existingSecret "key" $file.of.existingSecretKey "path" $file.path "variable" $file.variable | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where messages go, who they are from, and how many of them when. What is empty is left to the server's default. */}}
{{- define "campaign.channelsEnv" -}}
{{- range $name, $channel := .Values.channels }}
{{- if $channel.existingSecret }}
- name: CAMPAIGN_{{ upper $name }}_URL
  valueFrom:
    secretKeyRef:
      name: {{ $channel.existingSecret | quote }}
      key: {{ $channel.existingSecretKey | quote }}
{{- else if $channel.url }}
{{- if and (regexMatch "^(gateway[+]|https?:)" $channel.url) (not $.Values.webhookSecret.existingSecret) }}
{{- fail (printf "channels.%s.url needs webhookSecret.existingSecret: name the secret that signs requests to it" $name) }}
{{- end }}
{{- if and (regexMatch "^smtps?:" $channel.url) (not $channel.from) }}
{{- fail "channels.email.from is missing: say who mails are from, for example Shop <hello@shop.example>" }}
{{- end }}
- name: CAMPAIGN_{{ upper $name }}_URL
  value: {{ $channel.url | quote }}
{{- else }}
{{- fail (printf "channels.%s has neither url nor existingSecret: say where its messages go, for example outbox:/tmp/%s" $name $name) }}
{{- end }}
{{- end }}
{{- $email := .Values.channels.email }}
{{- $sms := .Values.channels.sms }}
{{- $phone := .Values.channels.phone }}
{{- range $variable := list
    (list "PUBLIC_URL" .Values.server.publicUrl)
    (list "EMAIL_FROM" $email.from)
    (list "POSTAL_ADDRESS" $email.postalAddress)
    (list "BOUNCE_ADDRESS" $email.bounceAddress)
    (list "DKIM_SELECTOR" $email.dkim.selector)
    (list "EMAIL_HOURS" $email.hours)
    (list "EMAIL_RATE" $email.rate)
    (list "EMAIL_DOMAIN_RATE" $email.domainRate)
    (list "SMS_FROM" $sms.from)
    (list "SMS_HOURS" $sms.hours)
    (list "SMS_RATE" $sms.rate)
    (list "SMS_MAX_SEGMENTS" ($sms.maxSegments | toString))
    (list "PHONE_FROM" $phone.from)
    (list "PHONE_HOURS" $phone.hours)
    (list "PHONE_RATE" $phone.rate)
    (list "INTERACTION_RATE" .Values.channels.interaction.rate)
    (list "CHANNEL_FAILURES" (.Values.circuits.failures | toString))
    (list "CHANNEL_PROBE" .Values.circuits.probe)
    (list "CHANNEL_PROBE_CAP" .Values.circuits.probeCap) }}
{{- if index $variable 1 }}
- name: CAMPAIGN_{{ index $variable 0 }}
  value: {{ index $variable 1 | quote }}
{{- end }}
{{- end }}
{{- if .Values.server.allowPrivateDestinations }}
- name: CAMPAIGN_ALLOW_PRIVATE_DESTINATIONS
  value: "true"
{{- end }}
{{- if .Values.testOutbox.enabled }}
- name: CAMPAIGN_TEST_OUTBOX_DIR
  value: /var/lib/campaign/test-outbox
{{- end }}
{{- end -}}
