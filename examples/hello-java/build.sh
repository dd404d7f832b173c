#!/bin/sh
# Makes target/hello-java.jar, which `virga deploy` finds. Needs a JDK (Debian: openjdk-17-jdk-headless), no build tool.
# Where it runs, Virga has Lambda's interfaces (RequestHandler, Context); interfaces/ says to the compiler what they are.
set -eu
cd "$(dirname "$0")"
rm -rf target
mkdir -p target/interfaces target/classes
javac --release 17 -d target/interfaces $(find interfaces -name '*.java')
javac --release 17 -cp target/interfaces -d target/classes Hello.java
jar --create --file target/hello-java.jar -C target/classes .
