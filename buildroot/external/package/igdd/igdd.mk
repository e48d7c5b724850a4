################################################################################
#
# igdd
#
################################################################################

IGDD_VERSION = 0.1.0
IGDD_SITE = file://$(BR2_EXTERNAL_IGDD_PATH)/dl
IGDD_SITE_METHOD = file
IGDD_LICENSE = BSD-3-Clause, Apache-2.0 (go-iptables), MIT (godotenv)
IGDD_LICENSE_FILES = \
	LICENSE \
	vendor/github.com/coreos/go-iptables/LICENSE \
	vendor/github.com/coreos/go-iptables/NOTICE \
	vendor/github.com/joho/godotenv/LICENCE \
	vendor/golang.org/x/sync/LICENSE \
	vendor/golang.org/x/sys/LICENSE

IGDD_GOMOD = igdd
IGDD_BUILD_TARGETS = cmd/miniupnpd
# static, whatever the toolchain links
IGDD_GO_ENV = CGO_ENABLED=0
IGDD_LDFLAGS = -s -w -buildid= $(if $(filter arm,$(GO_GOARCH)),-R 4096) -X main.version=$(IGDD_VERSION)

define IGDD_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/bin/miniupnpd $(TARGET_DIR)/usr/sbin/miniupnpd
	ln -sf miniupnpd $(TARGET_DIR)/usr/sbin/miniupnpctl
	mkdir -p $(TARGET_DIR)/mnt/kd $(TARGET_DIR)/var/db $(TARGET_DIR)/usr/share/igdd
	ln -sf /mnt/kd/upnp.leases $(TARGET_DIR)/var/db/upnp.leases
	cp -dR $(@D)/rootfs-overlay/usr/share/igdd/. $(TARGET_DIR)/usr/share/igdd
	$(INSTALL) -D -m 0644 $(@D)/rootfs-overlay/usr/share/bash-completion/completions/miniupnpctl \
		$(TARGET_DIR)/usr/share/bash-completion/completions/miniupnpctl
	$(INSTALL) -D -m 0644 $(IGDD_PKGDIR)/rc.conf $(TARGET_DIR)/etc/rc.conf
endef

define IGDD_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/rootfs-overlay/etc/init.d/miniupnpd \
		$(TARGET_DIR)/etc/init.d/S54miniupnpd
endef

$(eval $(golang-package))
