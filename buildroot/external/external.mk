include $(sort $(wildcard $(BR2_EXTERNAL_IGDD_PATH)/package/*/*.mk))
