"""From kinematics to the Tully-Fisher relation: cuts, asymmetric drift, robust fits, literature, closure."""
