#############################################################
#
# miniupnpd, by igdd
#
#############################################################

MINIUPNPD_VERSION = 0.1.0
# The archives lie beside this file, nothing is downloaded.
MINIUPNPD_SOURCE =
MINIUPNPD_DEPENDENCIES = iptables util-linux

# Names of architectures here and in Go.
MINIUPNPD_GOARCH_x86_64 = amd64
MINIUPNPD_GOARCH_i386 = 386
MINIUPNPD_GOARCH_i486 = 386
MINIUPNPD_GOARCH_i586 = 386
MINIUPNPD_GOARCH_i686 = 386
MINIUPNPD_GOARCH_arm = arm
MINIUPNPD_GOARCH_aarch64 = arm64
MINIUPNPD_GOARCH_mipsel = mipsle
MINIUPNPD_GOARCH = $(MINIUPNPD_GOARCH_$(ARCH))

# ARMv5 runs on every ARM; set 6 or 7 for the later ones.
MINIUPNPD_GOARM ?= 5
MINIUPNPD_TARGET = $(if $(filter arm,$(MINIUPNPD_GOARCH)),armv$(MINIUPNPD_GOARM),$(MINIUPNPD_GOARCH))

# Go of the building machine, if it is new enough; empty installs the program
# that was built before.
MINIUPNPD_GO ?= $(shell go version 2>/dev/null | grep -qE ' go(1\.(2[6-9]|[3-9][0-9])|[2-9])' && command -v go)

ifneq ($(MINIUPNPD_GO),)
MINIUPNPD_ARCHIVE = igdd-$(MINIUPNPD_VERSION)-go2.tar.gz

define MINIUPNPD_BUILD_CMDS
	cd $(@D) && env -i PATH="$(PATH)" HOME=$(@D)/.go GOPATH=$(@D)/.go GOCACHE=$(@D)/.go/cache \
	GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=vendor CGO_ENABLED=0 GOOS=linux \
	GOARCH=$(MINIUPNPD_GOARCH) GO386=softfloat GOARM=$(MINIUPNPD_GOARM) GOMIPS=softfloat \
	$(MINIUPNPD_GO) build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= $(if $(filter arm,$(MINIUPNPD_GOARCH)),-R 4096) -X main.version=$(MINIUPNPD_VERSION)" \
		-o rootfs-overlay/usr/sbin/miniupnpd ./cmd/miniupnpd
endef
else
MINIUPNPD_ARCHIVE = igdd-$(MINIUPNPD_VERSION)-linux-$(MINIUPNPD_TARGET).tar.gz
endif

define MINIUPNPD_CONFIGURE_CMDS
	zcat package/miniupnpd/$(MINIUPNPD_ARCHIVE) | tar -x -C $(@D) --strip-components=1 -f -
endef

define MINIUPNPD_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/usr/sbin $(TARGET_DIR)/etc/runlevels/default
	cp -dR $(@D)/rootfs-overlay/. $(TARGET_DIR)
	chmod 0755 $(TARGET_DIR)/usr/sbin/miniupnpd $(TARGET_DIR)/etc/init.d/miniupnpd
endef

define MINIUPNPD_UNINSTALL_TARGET_CMDS
	rm -f $(TARGET_DIR)/etc/init.d/miniupnpd
	rm -f $(TARGET_DIR)/usr/sbin/miniupnpd $(TARGET_DIR)/usr/sbin/miniupnpctl
	rm -f $(TARGET_DIR)/usr/share/man/man8/miniupnpd.8 $(TARGET_DIR)/usr/share/man/man8/miniupnpctl.8
	rm -f $(TARGET_DIR)/usr/share/bash-completion/completions/miniupnpctl
	rm -rf $(TARGET_DIR)/usr/share/igdd $(TARGET_DIR)/usr/share/doc/igdd
	rm -f $(TARGET_DIR)/etc/miniupnpd.conf
	rm -f $(TARGET_DIR)/etc/runlevels/default/S54miniupnpd
	rm -f $(TARGET_DIR)/etc/runlevels/default/K09miniupnpd
endef

$(eval $(call GENTARGETS,package,miniupnpd))
