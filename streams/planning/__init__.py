"""How large a cluster must be for a load: the arithmetic of `campaignwatch plan`. Pure but for the command itself."""
