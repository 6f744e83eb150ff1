#!/bin/sh
# A Citus cluster on this machine: a coordinator and two workers, with stock settings but for `shared_buffers`.
#
#     tests/citus/cluster.sh start DIRECTORY [PORT]    makes it if it is not there, starts it, and prints the URL of its database
#     tests/citus/cluster.sh stop DIRECTORY
#
# The coordinator listens on PORT (5620), the workers on the two after it. Takes PostgreSQL's programs from PGBIN, or from where
# `pg_config` says; Citus must be installed there. Run as somebody else than root, who owns DIRECTORY.
set -eu

action=$1 directory=$2 port=${3:-5620}
bin=${PGBIN:-$(pg_config --bindir)}
nodes="coordinator worker1 worker2"
database=campaign

start() {
    mkdir -p "$directory"
    at=$port
    for node in $nodes; do
        data=$directory/$node
        if [ ! -e "$data" ]; then
            "$bin/initdb" --pgdata "$data" --username campaign --auth trust --encoding UTF8 --locale C.UTF-8 > "$data.log"
            cat >> "$data/postgresql.conf" <<SETTINGS
listen_addresses = '127.0.0.1'
port = $at
unix_socket_directories = ''
max_connections = 1000
shared_buffers = 256MB
shared_preload_libraries = 'citus'
# Citus would make certificates of a kind that not all clients take.
ssl = off
citus.node_conninfo = 'sslmode=disable'
# Each database has a process of Citus, and each test a database.
max_worker_processes = 100
SETTINGS
        fi
        "$bin/pg_ctl" status --pgdata "$data" > /dev/null || "$bin/pg_ctl" start --silent --wait --pgdata "$data" --log "$data.log"
        at=$((at + 1))
    done
    [ -n "$(sql "$port" postgres "select 1 from pg_database where datname = '$database'")" ] || make_database
    echo "postgres://campaign@127.0.0.1:$port/$database"
}

# On each node, as Citus copies no database; then the nodes are told of each other.
make_database() {
    for at in "$port" $((port + 1)) $((port + 2)); do
        sql "$at" postgres "create database $database" > /dev/null
        sql "$at" "$database" "create extension citus" > /dev/null
    done
    sql "$port" "$database" "select citus_set_coordinator_host('127.0.0.1', $port)" > /dev/null
    for at in $((port + 1)) $((port + 2)); do
        sql "$port" "$database" "select citus_add_node('127.0.0.1', $at)" > /dev/null
    done
}

sql() {
    "$bin/psql" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --host 127.0.0.1 --port "$1" --username campaign --dbname "$2" --command "$3"
}

stop() {
    for node in $nodes; do
        "$bin/pg_ctl" stop --silent --mode fast --pgdata "$directory/$node" || true
    done
}

case $action in
    start) start ;;
    stop) stop ;;
    *) echo "start or stop?" >&2; exit 2 ;;
esac
